// Line icons, 20 × 20, drawn with the colour of the text around them.

import type { ComponentChildren } from "preact";

function icon(children: ComponentChildren) {
  return (
    <svg class="icon" viewBox="0 0 20 20" width="20" height="20" aria-hidden="true" focusable="false">
      {children}
    </svg>
  );
}

export const icons = {
  blotter: () => icon(<path d="M3 4.5h14M3 8.2h14M3 11.9h14M3 15.5h9" />),
  watchlist: () => icon(<path d="M2.5 13.5l4-5 3.2 3 3-6 4.8 7M2.5 17h15" />),
  instrument: () =>
    icon(<path d="M5.5 3v3M5.5 12v4M3.7 6h3.6v6H3.7zM14.5 4v2M14.5 14v3M12.7 6h3.6v8h-3.6zM10 2.5v15" />),
  rejects: () => icon(<path d="M10 2.8l7.6 13.6H2.4zM10 8v4M10 14.2v.3" />),
  rules: () => icon(<path d="M3 5h3m3 0h8M3 10h8m3 0h3M3 15h2m3 0h9M7.5 3.4v3.2M12.5 8.4v3.2M6.5 13.4v3.2" />),
  pipeline: () => icon(<path d="M2.5 10h3l2-5.5 4.5 11 2.2-5.5h3.3" />),
  pause: () => icon(<path d="M7 4.5v11M13 4.5v11" />),
  play: () => icon(<path d="M6 4l9.5 6L6 16z" />),
  download: () => icon(<path d="M10 3v9m-3.5-3.5L10 12l3.5-3.5M3.5 16.5h13" />),
  columns: () => icon(<path d="M3 4h14v12H3zM8 4v12M12.6 4v12" />),
  help: () => icon(<path d="M7.3 7.4a2.8 2.8 0 1 1 3.9 2.6c-.8.4-1.2.9-1.2 2M10 14.8v.3" />),
  theme: () => icon(<path d="M16 11.6A6.6 6.6 0 1 1 8.4 4a5.2 5.2 0 0 0 7.6 7.6z" />),
  close: () => icon(<path d="M5 5l10 10M15 5L5 15" />),
  search: () => icon(<path d="M9 3.5a5.5 5.5 0 1 1 0 11 5.5 5.5 0 0 1 0-11zM13 13l4 4" />),
  link: () =>
    icon(<path d="M8.5 11.5l3-3M7 9.5l-2 2a2.5 2.5 0 0 0 3.5 3.5l2-2M13 10.5l2-2A2.5 2.5 0 0 0 11.500 5l-2 2" />),
  flask: () =>
    icon(<path d="M8 3h4M8.700 3v5L4 15.500c-.5.8 0 1.5 1 1.500h10c1 0 1.500-.7 1-1.500L11.300 8V3M6.500 12.500h7" />),
} as const;
