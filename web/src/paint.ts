// When things are drawn. Data arrives whether or not anybody looks: it is stored at once and drawn at
// most once per frame, and not at all while the tab is hidden. Coming back draws everything that
// became dirty in one frame, however long the tab was away.

const dirty = new Set<() => void>();
const everySecond = new Set<() => void>();
let requested = false;

function flush(): void {
  requested = false;
  const jobs = [...dirty];
  dirty.clear();
  for (const job of jobs) job();
}

function request(): void {
  if (requested || dirty.size === 0 || document.visibilityState === 'hidden') return;
  requested = true;
  requestAnimationFrame(flush);
}

/** Draws `job` in the next visible frame, once, however often it was asked for. */
export function paint(job: () => void): void {
  dirty.add(job);
  request();
}

/** Runs `job` now and once a second while the page is visible: ages, countdowns, uptime. */
export function eachSecond(job: () => void): void {
  everySecond.add(job);
  paint(job);
}

/** Starts the clock and the watch on the tab's visibility; called once, by main. */
export function startPainting(): void {
  window.setInterval(() => {
    for (const job of everySecond) paint(job);
  }, 1000);
  document.addEventListener('visibilitychange', () => {
    // A frame asked for before the tab was hidden may never have come.
    requested = false;
    request();
  });
}

/** Calls `resized` whenever the width of `element` changes, with that width in CSS pixels. */
export function onWidth(element: Element, resized: (width: number) => void): void {
  let last = 0;
  new ResizeObserver(([entry]) => {
    const width = Math.floor(entry?.contentRect.width ?? 0);
    if (width > 0 && width !== last) {
      last = width;
      resized(width);
    }
  }).observe(element);
}
