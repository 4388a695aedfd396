// The large heat map of one head.

import { element } from './dom.js';
import { drawHeatmap } from './heatmap.js';
import { largest, weightAt } from './maps.js';
import { percent, quoted, visible } from './words.js';

const LARGE = 512; // pixels of a side
const LISTED_ROWS = 5; // rows whose strongest weight is listed
export const TITLES = {
  encoder: 'Document to document',
  decoder: 'Summary to summary',
  cross: 'Summary to document',
};

// Return a figure of one head: the heat map, the weight under the pointer, and the strongest weights.
export function enlargedMap(map, head, about) {
  const title = `${TITLES[map.site]}, layer ${map.layer + 1}, head ${head + 1}`;
  const canvas = element('canvas', { class: 'attention', role: 'img', 'aria-label': title });
  const most = drawHeatmap(canvas, map, head, LARGE, { isRelative: true });
  const scale = element('div', { class: 'scale', 'aria-hidden': 'true' },
    '0', element('span', { class: 'ramp map' }), percent(most));
  canvas.style.setProperty('--ratio', `${map.columns} / ${map.rows}`);

  // Rows of cross-attention are named after the token that is generated, rows of attention within the
  // summary after the decoder's input, which is one token earlier.
  const written = ['(start)', ...about.written.map((token) => token.text)];
  const rowNames = { encoder: about.tokens, decoder: written, cross: written.slice(1) }[map.site];
  const columnNames = map.site === 'decoder' ? written : about.tokens;
  const name = (names, cell) => (map.span === 1
    ? visible(names[cell])
    : names.slice(cell * map.span, (cell + 1) * map.span).map(visible).join(' '));

  const readout = element('p', { class: 'readout' }, ' ');
  canvas.addEventListener('pointermove', (event) => {
    const box = canvas.getBoundingClientRect();
    const row = Math.min(map.rows - 1, Math.floor((event.clientY - box.top) / box.height * map.rows));
    const column = Math.min(map.columns - 1, Math.floor((event.clientX - box.left) / box.width * map.columns));
    if (row < 0 || column < 0) return;
    const weight = percent(weightAt(map, head, row, column));
    const from = element('b', {}, name(rowNames, row));
    const to = element('b', {}, name(columnNames, column));
    readout.replaceChildren(from, ' to ', to, ` ${weight}`);
  });

  const parts = [
    element('div', { class: 'row' }, element('h3', {}, title), scale),
    canvas, readout,
    element('p', { class: 'label' }, 'Strongest'),
    strongest(map, head, (row) => name(rowNames, row), (column) => name(columnNames, column)),
  ];
  if (map.span > 1) parts.push(element('p', { class: 'muted' }, `A cell stands for ${map.span} × ${map.span} tokens.`));
  return element('figure', {}, ...parts);
}

// Return a list of the rows with the largest weights, each with the column of that weight.
function strongest(map, head, rowName, columnName) {
  const found = [];
  for (let row = 0; row < map.rows; row += 1) {
    const weights = Float32Array.from({ length: map.columns }, (_, column) => weightAt(map, head, row, column));
    const [column] = largest(weights, 1);
    found.push({ row, column, weight: weights[column] });
  }
  found.sort((a, b) => b.weight - a.weight);
  const list = element('ol', { class: 'strongest' });
  for (const { row, column, weight } of found.slice(0, LISTED_ROWS)) {
    const text = `${quoted(rowName(row))} to ${quoted(columnName(column))} ${percent(weight)}`;
    list.append(element('li', {}, text));
  }
  return list;
}
