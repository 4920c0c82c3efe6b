// What the page gains from a script: search, copying, and a mark on the place one reads. The page is
// whole without it, so everything here adds to what the server wrote and removes nothing for good.

const words = (text) => text.toLowerCase().split(/\s+/).filter(Boolean);

function search() {
  const box = document.getElementById('search-box');
  const input = document.getElementById('search');
  const nothing = document.getElementById('nothing');
  if (!box || !input || !nothing) return;

  // A section is shown when it matches itself (its head) or holds an entry that does.
  const intro = document.getElementById('top');
  const sections = [...document.querySelectorAll('main > section:not(.intro)')].map((node) => ({
    node,
    head: (node.querySelector('.channel-head')?.textContent ?? '').toLowerCase(),
    titles: [...node.querySelectorAll(':scope > h3')],
    entries: [...node.querySelectorAll('article[data-entry]')].map((entry) => ({
      node: entry,
      text: entry.textContent.toLowerCase(),
    })),
  }));
  const links = new Map();
  for (const link of document.querySelectorAll('.side a[href^="#"]')) {
    links.set(link.getAttribute('href').slice(1), link.closest('li'));
  }

  const apply = () => {
    const wanted = words(input.value);
    const matches = (text) => wanted.every((word) => text.includes(word));
    let shown = 0;
    if (intro) intro.hidden = wanted.length > 0;
    for (const section of sections) {
      const whole = section.head !== '' && matches(section.head);
      let inside = 0;
      for (const entry of section.entries) {
        const visible = wanted.length === 0 || whole || matches(`${section.head} ${entry.text}`);
        entry.node.hidden = !visible;
        if (visible) inside += 1;
        const item = links.get(entry.node.id);
        if (item) item.hidden = !visible;
      }
      const visible = wanted.length === 0 || whole || inside > 0;
      section.node.hidden = !visible;
      const item = links.get(section.node.id);
      if (item) item.hidden = !visible;
      if (visible) shown += 1;
      for (const title of section.titles) {
        const first = title.nextElementSibling;
        const group = first?.matches('.operations') ? [...first.children] : [...section.node.querySelectorAll('.message')];
        title.hidden = group.length > 0 && group.every((node) => node.hidden);
        if (first?.matches('.operations')) first.hidden = title.hidden;
      }
    }
    for (const title of document.querySelectorAll('.side h2')) {
      const list = title.nextElementSibling;
      title.hidden = [...(list?.children ?? [])].every((item) => item.hidden);
    }
    nothing.hidden = shown > 0;
  };

  box.hidden = false;
  input.addEventListener('input', apply);
  // A browser may put back what was typed before a reload.
  if (input.value) apply();
  document.addEventListener('keydown', (event) => {
    if (event.key === '/' && !event.ctrlKey && !event.metaKey && document.activeElement !== input) {
      event.preventDefault();
      input.focus();
      input.select();
    } else if (event.key === 'Escape' && document.activeElement === input) {
      input.value = '';
      apply();
      input.blur();
    }
  });
}

function copying() {
  if (!navigator.clipboard) return;
  for (const node of document.querySelectorAll('[data-copy]')) {
    const text = node.textContent;
    const button = document.createElement('button');
    button.type = 'button';
    button.className = 'copy';
    button.textContent = 'Copy';
    button.addEventListener('click', async () => {
      try {
        await navigator.clipboard.writeText(text);
        button.textContent = 'Copied';
      } catch {
        button.textContent = 'Not allowed';
      }
      setTimeout(() => {
        button.textContent = 'Copy';
      }, 1200);
    });
    node.append(button);
  }
}

function reading() {
  const links = new Map();
  for (const link of document.querySelectorAll('.side a[href^="#"]')) links.set(link.getAttribute('href').slice(1), link);
  let current = null;
  const seen = new Set();
  const observer = new IntersectionObserver(
    (changes) => {
      for (const change of changes) {
        if (change.isIntersecting) seen.add(change.target);
        else seen.delete(change.target);
      }
      const top = [...seen].sort((a, b) => a.getBoundingClientRect().top - b.getBoundingClientRect().top)[0];
      const link = top && links.get(top.id);
      if (!link || link === current) return;
      current?.removeAttribute('aria-current');
      link.setAttribute('aria-current', 'location');
      // Moves the list beside the text, never the text itself.
      const side = link.closest('.side');
      if (side && (link.offsetTop < side.scrollTop || link.offsetTop > side.scrollTop + side.clientHeight - 40)) {
        side.scrollTop = link.offsetTop - side.clientHeight / 2;
      }
      current = link;
    },
    { rootMargin: '-70px 0px -60% 0px' },
  );
  for (const id of links.keys()) {
    const node = document.getElementById(id);
    const head = node?.querySelector('.channel-head') ? node.querySelector('.channel-head') : node;
    if (!head) continue;
    if (head !== node) links.set((head.id ||= `${id}--head`), links.get(id));
    observer.observe(head);
  }
}

search();
copying();
reading();
