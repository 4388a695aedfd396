// Entry point of a comparison's page: the first run against each of the others.

import { byId, element, readContent, svgElement } from './dom.js';
import { sortableTable } from './table.js';
import { emphasized, parseIndex, percent, signed, vocabularyOf } from './words.js';

const comparison = readContent();

function chosenRun() {
  const values = new URLSearchParams(location.hash.slice(1));
  return parseIndex(values.get('run'), comparison.contrasts.length) ?? 0;
}

function startRuns() {
  const group = byId('others');
  group.hidden = comparison.contrasts.length < 2;
  comparison.contrasts.forEach(({ name }, index) => {
    const button = element('button', { type: 'button' }, name);
    button.addEventListener('click', () => {
      history.replaceState(null, '', `#run=${index + 1}`);
      showContrast();
    });
    group.append(button);
  });
}

function showContrast() {
  const run = chosenRun();
  const contrast = comparison.contrasts[run];
  [...byId('others').children].forEach((button, index) => button.setAttribute('aria-pressed', String(index === run)));
  byId('title').textContent = `${contrast.name} and ${comparison.first}`;
  byId('differences').replaceChildren(...differences(contrast));
  byId('buckets').replaceChildren(...contrast.tables.map(titled));
  byId('ngrams').replaceChildren(...contrast.ngrams.map(titled));
  byId('examples').replaceChildren(...contrast.examples.map(examplesOf));
}

function differences(contrast) {
  const list = element('ul', { class: 'differences' });
  const reach = Math.max(...contrast.differences.flatMap(({ low, high }) => [-low, high, 0.1]));
  for (const test of contrast.differences) {
    list.append(element('li', {},
      element('span', {}, test.title),
      element('b', { class: 'number' }, signed(test.mean, 2)),
      intervalPicture(test, reach),
      element('span', { class: 'muted' }, `${signed(test.low, 2)} to ${signed(test.high, 2)}, p = ${test.p}`)));
  }

  const [mean, low, high] = contrast.improvement;
  const count = (number) => number.toLocaleString('en');
  const correlation = contrast.correlation === null ? 'none' : contrast.correlation.toFixed(2);
  return [
    element('p', { class: 'muted' }, `${contrast.name} minus ${comparison.first}, with the 95 % interval over `
      + 'documents; p by paired bootstrap, two-sided, Holm-corrected.'),
    list,
    element('p', {}, `${contrast.name} beats ${comparison.first} on an example with probability `,
      element('b', {}, mean.toFixed(3)), ` (${low.toFixed(3)} to ${high.toFixed(3)}; 0.5 is no improvement): `
      + `better on ${count(contrast.wins)}, worse on ${count(contrast.losses)}, equal on `
      + `${count(contrast.ties)} examples by ${comparison.metric}.`),
    element('p', {}, `${percent(contrast.identical / 100)} of the summaries are identical. ROUGE-L of one run's `
      + `summaries against the other's is ${contrast.overlap.toFixed(2)}. Correlation of the examples' `
      + `${comparison.metric}: ${correlation}.`),
  ];
}

// Return an interval as a picture; a difference of zero is in its middle.
function intervalPicture({ mean, low, high }, reach) {
  const x = (value) => 100 + 96 * value / reach;
  return svgElement('svg', { class: 'range', viewBox: '0 0 200 16', 'aria-hidden': 'true' },
    svgElement('path', { class: 'zero', d: 'M100 0V16' }),
    svgElement('path', { class: 'interval', d: `M${x(low)} 8H${x(high)}M${x(low)} 4v8M${x(high)} 4v8` }),
    svgElement('circle', { class: 'mean', cx: x(mean), cy: 8, r: 4 }));
}

function titled(table) {
  const body = table.rows.length ? sortableTable(table).node : element('p', { class: 'muted' }, 'None.');
  return element('div', {}, element('h3', {}, table.title), body);
}

function examplesOf({ names: [winner, loser], examples }) {
  const parts = [element('h3', {}, `${winner} wins most`)];
  if (!examples.length) parts.push(element('p', { class: 'muted' }, 'None.'));
  for (const { id, reference, texts, scores } of examples) {
    const known = vocabularyOf([reference]);
    parts.push(element('article', { class: 'example' },
      element('p', { class: 'label' }, id),
      element('p', { class: 'reference', dir: 'auto' }, element('b', {}, 'Reference '), reference),
      written(winner, scores[0], emphasized(texts[0], known)),
      written(loser, scores[1], emphasized(texts[1], known))));
  }
  return element('div', {}, ...parts);
}

function written(name, score, words) {
  return element('p', { class: 'written', dir: 'auto' },
    element('span', { class: 'label' }, `${name} `, score.toFixed(1)), ' ', ...words);
}

function startComparison() {
  document.title = `${comparison.first} compared · headcount`;
  const examples = comparison.examples.toLocaleString('en');
  byId('subtitle').textContent = `${examples} examples, scored with ${comparison.signature}`;
  startRuns();
  showContrast();
  addEventListener('hashchange', showContrast);
  document.documentElement.dataset.ready = 'true';
}

startComparison();
