// The one question that is asked before something cannot be undone.
import {signal} from '@preact/signals';
import {useEffect, useRef} from 'preact/hooks';
import {stopIn} from '../chat/generate';
import * as store from '../chat/store';

const asked = signal(false);

export function confirmDeleteAll(): void {
  asked.value = true;
}

export function ConfirmDialog() {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    if (asked.value) dialog.current?.showModal();
  }, [asked.value]);
  if (!asked.value) return null;
  const amount = store.heads.value.length;
  const close = () => (asked.value = false);
  return (
    <dialog ref={dialog} onClose={close} aria-labelledby="confirm-title">
      <h2 id="confirm-title">Delete {amount === 1 ? 'the conversation' : `all ${amount} conversations`}?</h2>
      <p>
        {amount === 1 ? 'It exists in this browser only and cannot be brought back. Export it first if in doubt.'
                      : 'They exist in this browser only and cannot be brought back. Export them first if in doubt.'}
      </p>
      <div class="dialog-buttons">
        <button type="button" class="plain" onClick={close}>Cancel</button>
        <button type="button" class="danger" onClick={() => {
          for (const head of store.heads.value) stopIn(head.id);
          void store.deleteAll();
          close();
        }}>Delete all</button>
      </div>
    </dialog>
  );
}
