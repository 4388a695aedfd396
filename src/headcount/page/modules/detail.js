// What is known of the tokens that are pointed at or kept, in words and numbers.

import { element } from './dom.js';
import { largest } from './maps.js';
import { percent, quoted, visible } from './words.js';

const MOST = 6; // tokens that are listed by name
const LEAST = 0.001; // attention of one that is listed

export function hint() {
  return element('p', { class: 'muted' },
    'Point at a word of the summary to see where the model looked; click to keep it and add others. '
    + 'Click a word of the document to see where it was used.');
}

// Describe written tokens, whose attention to the document adds up to `sum`.
export function describeWritten(about, rows, sum) {
  const parts = rows.length === 1 ? describeChoice(about.written[rows[0]]) : [describeSeveral(about, rows)];
  const best = largest(sum, MOST).filter((index) => sum[index] > LEAST);
  const values = best.map((index) => [visible(about.tokens[index]), sum[index] / rows.length]);
  return [...parts, bars('Attended to', values)];
}

// How a written token was chosen.
function describeChoice(token) {
  const shares = [element('span', {}, 'probability ', element('b', {}, percent(token.probability)))];
  if (token.copied !== null) {
    shares.push(share('copied', token.copied), share('generated', 1 - token.copied));
  }
  return [
    element('p', { class: 'facts' }, element('strong', {}, quoted(token.text)), ...shares),
    bars('Instead', token.alternatives.map(([text, value]) => [visible(text), value])),
  ];
}

function describeSeveral(about, rows) {
  const texts = rows.map((row) => visible(about.written[row].text)).join(' · ');
  return element('p', { class: 'facts' }, element('strong', {}, `${rows.length} tokens added up`), texts);
}

// Describe a document token, to which each written token attended by `used`.
export function describeSource(about, column, used) {
  const best = largest(used, MOST).filter((index) => used[index] > LEAST);
  const values = best.map((index) => [visible(about.written[index].text), used[index]]);
  return [
    element('p', { class: 'facts' }, element('strong', {}, quoted(about.tokens[column])), 'in the document'),
    bars('Attended to by', values),
  ];
}

function share(name, value) {
  const key = element('i', { class: `key ${name}` });
  return element('span', {}, key, `${name} `, element('b', {}, percent(value)));
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
