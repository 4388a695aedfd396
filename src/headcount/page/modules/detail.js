// The description of the hovered or selected tokens, in words and numbers.

import { copyShares } from './copying.js';
import { element } from './dom.js';
import { largest } from './maps.js';
import { percent, quoted, visible } from './words.js';

const MAX_LISTED = 6; // tokens that are listed by name
const MIN_ATTENTION = 0.001; // of a listed token

export function hint() {
  return element('p', { class: 'muted' },
    'Point at a word of the summary to see what the model attended to; click to select it, and other words to add '
    + 'their attention. Click a word of the document to see which words of the summary attended to it.');
}

// Describe tokens of the summary, whose attention to the document adds up to `sum`.
export function describeWritten(about, rows, sum) {
  const parts = rows.length === 1 ? describeChoice(about.written[rows[0]]) : [describeSeveral(about, rows)];
  const best = largest(sum, MAX_LISTED).filter((index) => sum[index] > MIN_ATTENTION);
  const values = best.map((index) => [visible(about.tokens[index]), sum[index] / rows.length]);
  return [...parts, bars('Attended to', values)];
}

// Describe how a token of the summary was chosen.
function describeChoice(token) {
  const shares = [element('span', {}, 'probability ', element('b', {}, percent(token.probability)))];
  shares.push(...copyShares(token));
  return [
    element('p', { class: 'facts' }, element('strong', {}, quoted(token.text)), ...shares),
    bars('Instead', token.alternatives.map(([text, value]) => [visible(text), value])),
  ];
}

function describeSeveral(about, rows) {
  const texts = rows.map((row) => visible(about.written[row].text)).join(' · ');
  return element('p', { class: 'facts' }, element('strong', {}, `${rows.length} tokens added up`), texts);
}

// Describe a token of the document; `used` is the attention of each token of the summary to it.
export function describeSource(about, column, used) {
  const best = largest(used, MAX_LISTED).filter((index) => used[index] > MIN_ATTENTION);
  const values = best.map((index) => [visible(about.written[index].text), used[index]]);
  return [
    element('p', { class: 'facts' }, element('strong', {}, quoted(about.tokens[column])), 'in the document'),
    bars('Attended to by', values),
  ];
}

function bars(title, values) {
  const list = element('ul', { class: 'bars', 'aria-label': title });
  for (const [text, value] of values) {
    const bar = element('span', { class: 'bar', 'aria-hidden': 'true' });
    bar.style.setProperty('--share', `${Math.min(100, 100 * value)}%`);
    const number = element('span', { class: 'value' }, percent(value));
    list.append(element('li', {}, element('span', { class: 'name' }, text), bar, number));
  }
  return element('div', { class: 'group' }, element('p', { class: 'label' }, title), list);
}
