// The summaries of one document by each setting of a study.

import { byId, element } from './dom.js';
import { emphasized, excerpt, vocabularyOf } from './words.js';

export const ORDERS = ['given', 'difference'];

// Fill the choice of documents and seeds. `onChange` is called after a choice.
export function startDocuments(study, state, onChange) {
  const seeds = study.seeds.map((seed, index) => element('option', { value: index }, `${seed}`));
  byId('seed').replaceChildren(...seeds);
  const choice = byId('document');
  const go = (index) => {
    state.document = index;
    onChange();
  };
  choice.addEventListener('change', () => go(Number(choice.value)));
  byId('previous').addEventListener('click', () => go(Number(choice.options[choice.selectedIndex - 1].value)));
  byId('next').addEventListener('click', () => go(Number(choice.options[choice.selectedIndex + 1].value)));
  byId('order').addEventListener('change', () => {
    state.order = byId('order').value;
    onChange();
  });
  byId('seed').addEventListener('change', () => {
    state.seed = Number(byId('seed').value);
    onChange();
  });
}

// Show the summaries of the chosen document. `onSelect(setting)` is called when a setting is chosen.
export function showDocument(study, state, onSelect) {
  showChoice(study, state);
  const about = study.documents[state.document];
  const known = vocabularyOf(about.references);
  const parts = about.references.map((text) => element('p', { class: 'reference', dir: 'auto' },
    element('b', {}, 'Reference '), text));
  parts.push(element('p', { class: 'muted' },
    `Words of the reference are in bold. Scores are ${metricOf(study, state).title} of this document.`));

  const list = element('ul', { class: 'summaries' });
  study.settings.forEach((setting, index) => {
    list.append(summaryOf(setting, about.summaries[index], index));
  });
  byId('summaries').replaceChildren(...parts, list);

  function summaryOf(setting, summaries, index) {
    const name = element('button', { type: 'button', 'aria-pressed': String(index === state.setting) }, setting.name);
    name.addEventListener('click', () => onSelect(index));
    const found = summaries.find((summary) => summary.seed === study.seeds[state.seed]);
    const item = element('li', { 'data-setting': index }, name);
    if (found === undefined) {
      const missing = element('p', { class: 'muted' }, 'No training with this seed is finished.');
      item.append(element('span', { class: 'value' }, '–'), missing);
      return item;
    }
    const score = found.scores[state.metric];
    item.append(
      element('span', { class: 'value' }, score === null ? '–' : score.toFixed(1)),
      element('p', { dir: 'auto' }, ...emphasized(found.text, known)),
    );
    return item;
  }
}

function showChoice(study, state) {
  const choice = byId('document');
  const ordered = study.documents.map((_, index) => ({ index, value: differenceOf(study, state, index) }));
  if (state.order === 'difference') ordered.sort((a, b) => b.value - a.value || a.index - b.index);
  choice.replaceChildren(...ordered.map(({ index, value }) => {
    const name = excerpt(study.documents[index].id, 60);
    const label = state.order === 'difference' ? `${value.toFixed(1)} · ${name}` : `${index + 1} · ${name}`;
    return element('option', { value: index }, label);
  }));
  choice.value = state.document;
  byId('order').value = state.order;
  byId('seed').value = state.seed;
  byId('previous').disabled = choice.selectedIndex <= 0;
  byId('next').disabled = choice.selectedIndex >= choice.options.length - 1;
}

// Return how much the settings differ on a document: the largest minus the smallest of their mean
// scores over seeds.
function differenceOf(study, state, document) {
  const means = [];
  for (const summaries of study.documents[document].summaries) {
    const scores = summaries.map((summary) => summary.scores[state.metric]).filter((score) => score !== null);
    if (scores.length) means.push(scores.reduce((a, b) => a + b, 0) / scores.length);
  }
  return means.length ? Math.max(...means) - Math.min(...means) : 0;
}

export function metricOf(study, state) {
  return study.metrics.find((metric) => metric.key === state.metric);
}
