// The few DOM moves the page needs. Text always goes in as text: names and reasons come from the wire,
// and under this page's content policy there is no markup worth building from strings anyway.

/** The element with this id; a missing one is a mistake in index.html, said at once. */
export function byId(id: string): HTMLElement {
  const element = document.getElementById(id);
  if (element === null) throw new Error(`index.html has no element #${id}`);
  return element;
}

/** Sets text only when it changed, so that screen readers and the layout hear of real changes only. */
export function say(element: Element, text: string): void {
  if (element.textContent !== text) element.textContent = text;
}

export function mark(element: HTMLElement, key: string, value: string): void {
  if (element.dataset[key] !== value) element.dataset[key] = value;
}

type Attributes = Readonly<Record<string, string>>;

/** `make('p', { class: 'hint' }, 'text', child)`. */
export function make<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Attributes = {},
  ...children: (Node | string)[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

const tokens = new Map<string, string>();

/** A colour or font of the style sheet, which is the one place that names them. Cheap: charts ask at every drawing. */
export function token(name: string): string {
  let value = tokens.get(name);
  if (value === undefined) {
    value = getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
    tokens.set(name, value);
  }
  return value;
}

/** Calls `restyle` when the reader's system turns to its light or dark colours; the tokens are the new ones then. */
export function onScheme(restyle: () => void): void {
  matchMedia('(prefers-color-scheme: light)').addEventListener('change', () => {
    tokens.clear();
    restyle();
  });
}

/**
 * A group of radio buttons made of real buttons: arrow keys move, the chosen one is in the tab order.
 * `choose` is called with the value, also for the first one at once.
 */
export function segments<T>(
  host: HTMLElement,
  options: readonly { readonly label: string; readonly value: T; readonly title?: string }[],
  chosen: T,
  choose: (value: T) => void,
): void {
  const buttons = options.map(({ label, title }) =>
    make('button', { type: 'button', role: 'radio', ...(title === undefined ? {} : { 'aria-label': title, title }) }, label),
  );
  const select = (index: number, focus: boolean): void => {
    const option = options[index];
    if (option === undefined) return;
    buttons.forEach((button, position) => {
      button.setAttribute('aria-checked', String(position === index));
      button.tabIndex = position === index ? 0 : -1;
    });
    if (focus) buttons[index]?.focus();
    choose(option.value);
  };
  buttons.forEach((button, index) => {
    button.addEventListener('click', () => {
      select(index, false);
    });
    button.addEventListener('keydown', (event) => {
      const next = arrowTarget(event.key, index, buttons.length);
      if (next === null) return;
      event.preventDefault();
      select(next, true);
    });
  });
  host.replaceChildren(...buttons);
  select(Math.max(0, options.findIndex(({ value }) => value === chosen)), false);
}

/** Where an arrow, Home or End key leads from `index` in a ring of `count`; null for other keys. */
export function arrowTarget(key: string, index: number, count: number): number | null {
  switch (key) {
    case 'ArrowRight':
    case 'ArrowDown':
      return (index + 1) % count;
    case 'ArrowLeft':
    case 'ArrowUp':
      return (index - 1 + count) % count;
    case 'Home':
      return 0;
    case 'End':
      return count - 1;
    default:
      return null;
  }
}
