// A text whose tokens can be hovered, focused and selected, by pointer or by keyboard.

import { element, readingOrder, roving } from './dom.js';
import { visible } from './words.js';

// Return { node, items, paint, select }: the list, its tokens, and functions that colour tokens by
// values and mark the selected ones.
//
// `onHover(index)` is called with the token under the pointer or the focus, and with null when there is
// none any more; `onSelect(index)` when a token is clicked; `onClear()` on Escape. `several` is whether
// more than one can be selected.
export function tokenList(texts, { label, several, onHover, onSelect, onClear }) {
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

    // Blanks around a token are not coloured.
    if (isBlank) node.append(item, text);
    else node.append(blank, item, text.slice(blank.length + text.trim().length));
  });

  // One listener for all tokens. A tap is a click, not a hover.
  const indexOf = (event) => {
    const item = event.target.closest('[data-index]');
    return item === null ? null : Number(item.dataset.index);
  };
  node.addEventListener('pointerover', (event) => {
    if (event.pointerType !== 'touch' && indexOf(event) !== null) onHover(indexOf(event));
  });
  node.addEventListener('pointerleave', (event) => {
    if (event.pointerType !== 'touch') onHover(null);
  });
  node.addEventListener('focusin', (event) => {
    if (event.target.matches(':focus-visible')) onHover(indexOf(event));
  });
  node.addEventListener('focusout', () => onHover(null));
  node.addEventListener('click', (event) => {
    if (indexOf(event) === null) return;
    onSelect(indexOf(event));
  });
  node.addEventListener('keydown', (event) => {
    if (event.key === 'Enter' || event.key === ' ') {
      event.preventDefault();
      if (indexOf(event) !== null) onSelect(indexOf(event));
    }
    if (event.key === 'Escape') onClear();
  });
  roving(node, items, readingOrder(items));
  return { node, items, paint: painter(items), select: selector(items) };
}

// Return a function that colours each token by its share of the largest value, and returns that value.
// It changes only the tokens whose colour changes, which keeps hovering fast.
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

// Return a function that marks the selected tokens.
function selector(items) {
  return (chosen) => {
    items.forEach((item, index) => {
      const isChosen = chosen.includes(index);
      if (item.ariaSelected !== String(isChosen)) item.setAttribute('aria-selected', isChosen);
    });
  };
}
