// Copying, also on plain-http addresses of a local network, where navigator.clipboard does not exist.
import {toast} from './chat/toast';

export async function copyText(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = document.createElement('textarea');
    area.value = text;
    area.className = 'visually-hidden';
    document.body.append(area);
    const focused = document.activeElement;
    area.select();
    const copied = document.execCommand('copy');
    area.remove();
    if (focused instanceof HTMLElement) focused.focus();
    if (!copied) toast('The browser refused to copy: select the text and copy it by hand');
    return copied;
  }
}
