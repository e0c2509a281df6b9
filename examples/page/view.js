/** The element with an id; the page has all that are asked for. */
export const element = (id) => document.getElementById(id);

/** Shows or hides an element. */
export function show(id, isShown) {
  element(id).hidden = !isShown;
}

/** Puts a sentence where screen readers announce it. */
export function say(id, sentence) {
  element(id).textContent = sentence;
}

/** Fills a list. Whatever users wrote is set as text and never as markup. */
export function fillList(id, items, describe) {
  element(id).replaceChildren(...items.map((item) => renderItem(describe(item))));
}

function renderItem({ text, detail, mark, action }) {
  const item = document.createElement('li');
  const words = document.createElement('span');
  const small = document.createElement('small');
  small.textContent = detail;
  words.append(text, small);
  item.append(words);
  if (mark !== undefined) {
    const badge = document.createElement('small');
    badge.textContent = mark;
    item.append(badge);
  }
  if (action !== undefined) item.append(renderButton(action));
  return item;
}

function renderButton({ name, label, run }) {
  const button = document.createElement('button');
  button.type = 'button';
  button.className = 'quiet';
  button.textContent = name;
  button.setAttribute('aria-label', label);
  button.addEventListener('click', async () => {
    button.disabled = true;
    try {
      await run();
    } catch (error) {
      button.disabled = false;
      document.dispatchEvent(new CustomEvent('action-failed', { detail: error }));
    }
  });
  return button;
}
