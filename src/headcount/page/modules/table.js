// Tables that are sorted by a column: by a click on its title, or by the keyboard.

import { element } from './dom.js';

// Return a table in a frame that scrolls.
//
// A column is { title, kind }, where the kind is `text` or `number`. A row is { cells, last }; rows
// that are `last` stay below the others. A cell is { lines, sort, link, share, tone, colors }: lines
// of text, the number that it is sorted by (null: below all numbers), a URL or null, a number from 0 to 1
// that is drawn as a bar, a CSS class, and the colours of the first lines if these are verdicts.
// `onRow(row)` is called when the pointer enters a row, and with null when it leaves.
export function sortableTable({ title, columns, rows, onRow = null }) {
  const body = element('tbody');
  const lines = rows.map((row) => ({ row, node: tableRow(row, columns, onRow) }));
  const titles = columns.map((column, index) => {
    const button = element('button', { type: 'button' }, column.title);
    button.addEventListener('click', () => sortBy(index));
    return element('th', { scope: 'col', class: column.kind }, button);
  });
  const sorted = { column: null, direction: 1 };

  function sortBy(index) {
    // The first click sorts numbers in descending order, the second click reverses the order.
    const isAgain = sorted.column === index;
    sorted.direction = isAgain ? -sorted.direction : columns[index].kind === 'number' ? -1 : 1;
    sorted.column = index;
    titles.forEach((node, column) => {
      if (column !== index) node.removeAttribute('aria-sort');
      else node.setAttribute('aria-sort', sorted.direction > 0 ? 'ascending' : 'descending');
    });
    body.append(...lines.toSorted(compare).map((line) => line.node));
  }

  function compare(a, b) {
    if (Boolean(a.row.last) !== Boolean(b.row.last)) return a.row.last ? 1 : -1;
    const [first, second] = [a.row.cells[sorted.column].sort, b.row.cells[sorted.column].sort];
    if (first === null || second === null) return (first === null) - (second === null);
    return sorted.direction * (first - second);
  }

  body.append(...lines.map((line) => line.node));
  const node = element('div', { class: 'frame', role: 'region', tabindex: 0, 'aria-label': title },
    element('table', { 'aria-label': title }, element('thead', {}, element('tr', {}, ...titles)), body));
  return { node, rows: lines.map((line) => line.node) };
}

function tableRow(row, columns, onRow) {
  const cells = row.cells.map((cell, index) => {
    const name = index === 0 ? 'th' : 'td';
    const attributes = { class: [columns[index].kind, cell.tone ?? ''].join(' ').trim() };
    if (index === 0) attributes.scope = 'row';
    return element(name, attributes, ...content(cell));
  });
  const node = element('tr', {}, ...cells);
  if (onRow !== null) {
    node.addEventListener('pointerenter', () => onRow(row));
    node.addEventListener('pointerleave', () => onRow(null));
  }
  return node;
}

function content({ lines, link = null, share = null, colors = [] }) {
  const parts = lines.map((line, index) => {
    if (index < colors.length) return verdict(line, colors[index]);
    if (index > 0) return element('span', { class: 'small' }, line);
    return link === null ? line : element('a', { href: link }, line);
  });
  if (share !== null) {
    const bar = element('span', { class: 'bar', 'aria-hidden': 'true' });
    bar.style.setProperty('--share', `${Math.round(100 * share)}%`);
    parts.push(bar);
  }
  return parts;
}

function verdict(line, color) {
  const node = element('span', { class: 'line verdict' }, line);
  node.style.setProperty('--verdict', color);
  return node;
}
