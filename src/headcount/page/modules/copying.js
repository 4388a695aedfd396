// What a page shows of copying: how much of a token's probability comes from the document. A token
// of a model that does not copy has null there.

import { element } from './dom.js';
import { percent } from './words.js';

// Return the shares of a token that were copied and generated, in words and numbers.
export function copyShares(token) {
  if (token.copied === null) return [];
  return [share('copied', token.copied), share('generated', 1 - token.copied)];
}

function share(name, value) {
  const key = element('i', { class: `key ${name}` });
  return element('span', {}, key, `${name} `, element('b', {}, percent(value)));
}

// Draw the share that was copied as a bar below a token, whose element is `node`.
export function drawCopyBar(node, token) {
  if (token.copied === null) return;
  node.classList.add('measured');
  node.style.setProperty('--copied-share', `${Math.round(100 * token.copied)}%`);
}

// Return what explains the bars of a run.
export function copyLegend(run) {
  if (!run.copying) return [];
  return [element('p', { class: 'legend muted' },
    element('i', { class: 'key copied' }), 'copied from the document ',
    element('i', { class: 'key generated' }), 'generated')];
}
