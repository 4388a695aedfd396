// Tokens as text that can be pointed at: hover, focus, click, arrow keys.

import { element, readingOrder, roving } from './dom.js';
import { visible } from './words.js';

// Return a list of tokens and how to colour it.
//
// `onPoint(index)` is called when a token is pointed at or focused, with null when none is any
// more; `onKeep(index)` when it is clicked; `onRelease()` on Escape.
export function tokenList(texts, { label, several, onPoint, onKeep, onRelease }) {
  const items = [];
  const node = element('div', {
    class: 'tokens', role: 'listbox', dir: 'auto', 'aria-label': label,
    'aria-multiselectable': several ? 'true' : null,
  });
  texts.forEach((text, index) => {
    const [, blank] = /^(\s*)/u.exec(text);
    const isBlank = blank === text;
    const item = element('span', {
      class: isBlank || /^\((start|end)\)$/.test(text) ? 'token faint' : 'token',
      role: 'option', 'aria-selected': 'false', 'data-index': index,
    }, visible(text));
    items.push(item);
    // Blanks are outside of what is coloured.
    if (isBlank) node.append(item, text);
    else node.append(blank, item, text.slice(blank.length + text.trim().length));
  });

  const indexOf = (event) => {
    const item = event.target.closest('[data-index]');
    return item === null ? null : Number(item.dataset.index);
  };
  node.addEventListener('pointerover', (event) => {
    if (event.pointerType !== 'touch' && indexOf(event) !== null) onPoint(indexOf(event));
  });
  node.addEventListener('pointerleave', (event) => {
    if (event.pointerType !== 'touch') onPoint(null);
  });
  node.addEventListener('focusin', (event) => {
    if (event.target.matches(':focus-visible')) onPoint(indexOf(event));
  });
  node.addEventListener('focusout', () => onPoint(null));
  node.addEventListener('click', (event) => {
    if (indexOf(event) === null) return;
    onKeep(indexOf(event));
  });
  node.addEventListener('keydown', (event) => {
    if (event.key === 'Enter' || event.key === ' ') {
      event.preventDefault();
      if (indexOf(event) !== null) onKeep(indexOf(event));
    }
    if (event.key === 'Escape') onRelease();
  });
  roving(node, items, readingOrder(items));
  return { node, items, paint: painter(items), select: selector(items) };
}

// Return a function that colours each token by a share of the largest value.
function painter(items) {
  const shown = new Float32Array(items.length);
  return (values) => {
    const most = values === null ? 0 : values.reduce((a, b) => Math.max(a, b), 0);
    items.forEach((item, index) => {
      const share = most > 0 ? values[index] / most : 0;
      const heat = share < 0.02 ? 0 : Math.round(100 * share ** 0.7);
      if (heat === shown[index]) return;
      shown[index] = heat;
      if (heat === 0) item.style.removeProperty('--heat');
      else item.style.setProperty('--heat', `${heat}%`);
    });
    return most;
  };
}

function selector(items) {
  return (chosen) => {
    items.forEach((item, index) => {
      const isChosen = chosen.includes(index);
      if (item.ariaSelected !== String(isChosen)) item.setAttribute('aria-selected', isChosen);
    });
  };
}
