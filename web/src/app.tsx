// The page as a whole.
import {Banner} from './components/banner';
import {Composer} from './components/composer';
import {ConfirmDialog} from './components/confirm';
import {Rail} from './components/rail';
import {SettingsDrawer} from './components/settings_drawer';
import {TopBar} from './components/top_bar';
import {Transcript} from './components/transcript';
import {dismissToast, shownToast} from './chat/toast';
import {railOpen} from './ui';

export function App() {
  return (
    <div class={`page ${railOpen.value ? 'with-rail' : ''}`}>
      <Rail />
      <main>
        <TopBar />
        <Banner />
        <Transcript />
        <Composer />
      </main>
      <SettingsDrawer />
      <ConfirmDialog />
      <ToastLine />
    </div>
  );
}

function ToastLine() {
  const toast = shownToast.value;
  return (
    <div class="toast-place" role="status" aria-live="polite">
      {toast !== null && (
        <div class="toast">
          <span>{toast.text}</span>
          {toast.action && (
            <button type="button" class="plain" onClick={() => {
              dismissToast();
              toast.action!.run();
            }}>{toast.action.label}</button>
          )}
        </div>
      )}
    </div>
  );
}
