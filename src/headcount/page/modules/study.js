// Entry point of a study's page: its figure, its tables, and each setting's summaries.

import { chartLegend, drawChart } from './chart.js';
import { byId, element, readContent } from './dom.js';
import { metricOf, ORDERS, showDocument, startDocuments } from './summaries.js';
import { sortableTable } from './table.js';
import { parseIndex, prose, signed } from './words.js';

const study = readContent();
const reference = study.settings.findIndex((setting) => setting.isReference);
const state = initialState();
let hovered = null; // index of the setting under the pointer or the focus

function initialState() {
  return {
    metric: study.metrics.at(-1).key,
    setting: Math.max(0, reference), // the selected one
    document: 0,
    seed: 0, // index into study.seeds
    order: 'given', // of the documents
  };
}

function writeStudyFragment() {
  const values = new URLSearchParams();
  values.set('metric', state.metric);
  values.set('setting', state.setting + 1);
  if (state.document !== 0) values.set('document', state.document + 1);
  if (state.seed !== 0) values.set('seed', state.seed + 1);
  if (state.order !== 'given') values.set('order', state.order);
  history.replaceState(null, '', `#${values}`);
}

// Read the fragment. A value that is not legal on this page is replaced by its default.
function readStudyFragment() {
  const values = new URLSearchParams(location.hash.slice(1));
  Object.assign(state, initialState());
  if (study.metrics.some((metric) => metric.key === values.get('metric'))) state.metric = values.get('metric');
  if (ORDERS.includes(values.get('order'))) state.order = values.get('order');
  state.setting = parseIndex(values.get('setting'), study.settings.length) ?? state.setting;
  state.document = parseIndex(values.get('document'), study.documents.length) ?? 0;
  state.seed = parseIndex(values.get('seed'), study.seeds.length) ?? 0;
}

function startMetrics() {
  for (const metric of study.metrics) {
    const button = element('button', { type: 'button', 'data-metric': metric.key }, metric.title);
    button.addEventListener('click', () => {
      state.metric = metric.key;
      changedStudy();
    });
    byId('metrics').append(button);
  }
}

function select(setting) {
  state.setting = setting;
  writeStudyFragment();
  mark();
  if (study.documents.length) showDocument(study, state, select);
}

function hover(setting) {
  hovered = setting;
  mark();
}

// Mark the hovered setting, or else the selected one, in figure and tables, and describe it.
function mark() {
  const shown = hovered ?? state.setting;
  for (const node of document.querySelectorAll('[data-setting]')) {
    const index = Number(node.dataset.setting);
    node.classList.toggle('shown', index === shown);
    if (node.matches('[aria-pressed]')) node.setAttribute('aria-pressed', String(index === state.setting));
  }
  byId('detail').replaceChildren(...describe(study.settings[shown]));
}

function showFigure() {
  for (const button of byId('metrics').children) {
    button.setAttribute('aria-pressed', String(button.dataset.metric === state.metric));
  }
  byId('chart').replaceChildren(drawChart({
    study,
    metric: metricOf(study, state),
    width: byId('chart').clientWidth,
    selected: state.setting,
    onHover: hover,
    onSelect: select,
  }));
}

// Return the details of a setting: its scores, the score of each seed, and its costs.
function describe(setting) {
  const notes = setting.notes.map((note) => element('span', { class: 'muted' }, ` ${note}`));
  const parts = [element('h3', {}, setting.name, ...notes)];
  const scores = element('dl', { class: 'facts-list' });
  for (const metric of study.metrics) {
    scores.append(element('dt', {}, metric.title), element('dd', {}, ...scoreLines(setting, metric)));
  }
  parts.push(scores);

  const runs = element('ul', { class: 'runs' });
  for (const run of setting.runs) {
    const score = run.scores[state.metric];
    const label = `attention of ${setting.name}, seed ${run.seed}`;
    const link = run.page === null ? null : element('a', { href: run.page, 'aria-label': label }, 'attention');
    const value = element('b', {}, score === null ? '–' : score.toFixed(2));
    runs.append(element('li', {}, `seed ${run.seed} `, value, ' ', link));
  }
  parts.push(element('p', { class: 'label' }, `${metricOf(study, state).title} of each seed`), runs);

  const costs = element('dl', { class: 'costs' });
  for (const [title, text] of setting.costs) {
    costs.append(element('div', {}, element('dt', {}, title), element('dd', {}, text)));
  }
  parts.push(element('p', { class: 'label' }, 'Costs'), costs);
  return parts;
}

function scoreLines(setting, metric) {
  const { mean, low, high, sd } = setting.estimates[metric.key];
  const spread = sd === null ? '' : ` ± ${sd.toFixed(2)}`;
  const lines = [
    element('b', {}, `${mean.toFixed(2)}${spread}`),
    element('span', { class: 'muted' }, ` ${low.toFixed(2)} to ${high.toFixed(2)}`),
  ];
  const comparison = setting.comparisons[metric.key];
  if (comparison) {
    const verdict = element('span', { class: 'verdict' }, `${comparison.symbol} ${comparison.verdict}`);
    verdict.style.setProperty('--verdict', comparison.color);
    lines.push(element('span', { class: 'line' },
      `Δ ${signed(comparison.mean, 2)} `,
      element('span', { class: 'muted' },
        `${signed(comparison.low, 2)} to ${signed(comparison.high, 2)}, ${comparison.p} `),
      verdict, element('span', { class: 'muted' }, ` ${comparison.note}`)));
  }
  return lines;
}

function startTables() {
  for (const table of study.tables) {
    const { node, rows } = sortableTable({ ...table, onRow: (row) => hover(row?.setting ?? null) });
    rows.forEach((row, index) => {
      if (table.rows[index].setting !== null) row.dataset.setting = table.rows[index].setting;
    });
    byId('tables').append(element('h3', {}, table.title), node);
  }
}

function changedStudy() {
  writeStudyFragment();
  showStudy();
}

function showStudy() {
  showFigure();
  mark();
  if (study.documents.length) showDocument(study, state, select);
}

function startStudy() {
  readStudyFragment();
  document.title = `${study.name} · headcount`;
  byId('title').textContent = study.name;
  byId('subtitle').textContent = study.subtitle;
  byId('state').hidden = study.state.length === 0;
  byId('state').append(...prose(study.state));
  byId('findings').append(...prose(study.findings));
  byId('method').append(...prose(study.method));
  byId('legend').append(chartLegend(study));
  byId('documents').hidden = study.documents.length === 0;
  startMetrics();
  startTables();
  startDocuments(study, state, changedStudy);
  showStudy();

  // Draw the figure again when the width of the page changes.
  let width = byId('chart').clientWidth;
  new ResizeObserver(() => {
    if (byId('chart').clientWidth === width) return;
    width = byId('chart').clientWidth;
    showFigure();
    mark();
  }).observe(byId('chart'));
  addEventListener('hashchange', () => {
    readStudyFragment();
    showStudy();
  });
  document.documentElement.dataset.ready = 'true';
}

startStudy();
