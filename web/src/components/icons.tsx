// Line icons, drawn on a 20 px grid in the colour of the text beside them.
const kPaths = {
  plus: 'M10 4v12M4 10h12',
  search: 'M9 15A6 6 0 1 0 9 3a6 6 0 0 0 0 12ZM13.5 13.5 17 17',
  menu: 'M3 6h14M3 10h14M3 14h14',
  settings: 'M3 6h7M14 6h3M3 14h3M10 14h7M12 4v4M8 12v4',
  close: 'M5 5l10 10M15 5 5 15',
  send: 'M10 16V4M5 9l5-5 5 5',
  copy: 'M7 7V4h9v9h-3M4 7h9v9H4z',
  check: 'M4 10.5 8 14l8-8.5',
  again: 'M16 10a6 6 0 1 1-2-4.5M16 3v4h-4',
  edit: 'M4 16l1-4 8.5-8.5 3 3L8 15zM11.5 5.5l3 3',
  trash: 'M4 6h12M8 6V4h4v2M6 6l.7 10h6.6L14 6',
  left: 'M12 5l-5 5 5 5',
  right: 'M8 5l5 5-5 5',
  down: 'M10 4v12M5 11l5 5 5-5',
  tokens: 'M3 5h6v4H3zM11 5h6v4h-6zM3 11h10v4H3z',
  download: 'M10 3v9M6 9l4 4 4-4M4 16h12',
  upload: 'M10 13V4M6 7l4-4 4 4M4 16h12',
  sun: 'M10 13a3 3 0 1 0 0-6 3 3 0 0 0 0 6ZM10 2v2M10 16v2M2 10h2M16 10h2M4.5 4.5 6 6M14 14l1.5 1.5M4.5 15.5 6 14M14 6l1.5-1.5',
  moon: 'M15.5 12.5A6.5 6.5 0 0 1 7.5 4.5 6.5 6.5 0 1 0 15.5 12.5Z',
  auto: 'M10 16a6 6 0 1 0 0-12 6 6 0 0 0 0 12ZM10 4v12M12 5v10M14 6v8',
  tool: 'M12 4a4 4 0 0 0-3.5 6L4 14.5 5.5 16 10 11.5A4 4 0 0 0 16 8l-2.5 1.5-2-2L13 5',
  play: 'M6 4l9 6-9 6z',
} as const;

export type IconName = keyof typeof kPaths | 'stop';

export function Icon({name}: {name: IconName}) {
  return (
    <svg class="icon" viewBox="0 0 20 20" width="20" height="20" aria-hidden="true" focusable="false">
      {name === 'stop' ? <rect x="5.5" y="5.5" width="9" height="9" rx="1.5" class="solid" /> : <path d={kPaths[name]} />}
    </svg>
  );
}

export function IconButton({icon, label, onClick, disabled, pressed, className}: {
  icon: IconName;
  label: string;
  onClick: () => void;
  disabled?: boolean;
  pressed?: boolean;
  className?: string;
}) {
  return (
    <button type="button" class={`icon-button ${className ?? ''}`} aria-label={label} title={label} onClick={onClick}
        disabled={disabled} aria-pressed={pressed}>
      <Icon name={icon} />
    </button>
  );
}
