// Entry point of the attention page: builds its parts and updates them.

import { byId, element } from './dom.js';
import { showHeadsOff } from './heads_off.js';
import { startLive } from './live.js';
import { makePanel } from './panel.js';
import { drawPicture, savePng, saveSvg } from './save.js';
import { chooseDocument, content, ORDERS, readFragment, state, writeFragment } from './state.js';
import { showThumbnails } from './thumbnails.js';
import { changedWords, excerpt, signed, wordsOf } from './words.js';

let panels = [];
let shownRun = -1;

// Return the documents in the chosen order, each with the value that it is sorted by.
function orderedDocuments() {
  const documents = content.documents.map((_, index) => ({ index, value: valueOf(index) }));
  const direction = state.order === 'given' ? 1 : -1;
  return documents.sort((a, b) => direction * (a.value - b.value) || a.index - b.index);
}

function valueOf(index) {
  const [first, second] = content.runs.map((run) => run.documents[index]);
  if (state.order === 'rouge') {
    const rouge = first.rouge?.[2] ?? 0;
    return second ? rouge - (second.rouge?.[2] ?? 0) : rouge;
  }
  if (state.order === 'length') return content.documents[index].words;
  if (state.order === 'difference' && second) {
    const words = wordsOf(first.summary).length + wordsOf(second.summary).length;
    return changedWords(first.summary, second.summary) / Math.max(1, words);
  }
  return index;
}

function label({ index, value }) {
  const name = excerpt(content.documents[index].id, 60);
  if (state.order === 'rouge') return `${content.runs.length > 1 ? signed(value) : value.toFixed(1)} · ${name}`;
  if (state.order === 'length') return `${value} words · ${name}`;
  if (state.order === 'difference') return `${Math.round(100 * value)} % · ${name}`;
  return `${index + 1} · ${name}`;
}

function showToolbar() {
  const choice = byId('document');
  choice.replaceChildren(...orderedDocuments().map((each) => element('option', { value: each.index }, label(each))));
  choice.value = state.document;
  byId('order').value = state.order;
  byId('previous').disabled = choice.selectedIndex <= 0;
  byId('next').disabled = choice.selectedIndex >= choice.options.length - 1;
}

function startToolbar() {
  const choice = byId('document');
  const go = (index) => {
    chooseDocument(index);
    writeFragment();
    show();
  };
  choice.addEventListener('change', () => go(Number(choice.value)));
  byId('previous').addEventListener('click', () => go(Number(choice.options[choice.selectedIndex - 1].value)));
  byId('next').addEventListener('click', () => go(Number(choice.options[choice.selectedIndex + 1].value)));


  // Offer only the orders that the documents of this page can have.
  const order = byId('order');
  for (const option of [...order.options]) {
    const isConstant = option.value === 'difference' ? content.runs.length < 2
      : option.value === 'rouge' && !content.documents.some((each) => each.references.length);
    if (isConstant || !ORDERS.includes(option.value)) option.remove();
    if (option.value === 'rouge' && content.runs.length > 1) option.textContent = 'difference of ROUGE-L';
  }
  order.addEventListener('change', () => {
    state.order = order.value;
    writeFragment();
    showToolbar();
  });
}

function startRunChoice() {
  const group = byId('run-choice');
  group.hidden = content.runs.length < 2;
  content.runs.forEach((run, index) => {
    const button = element('button', { type: 'button' }, run.name);
    button.addEventListener('click', () => {
      state.active = index;
      writeFragment();
      showRun();
    });
    group.append(button);
  });
}

// Show the current document: panels first, then the sections of the active run.
async function show() {
  const isEmpty = content.documents.length === 0;
  for (const name of ['toolbar', 'thumbnails', 'heads-off']) byId(name).hidden = isEmpty;
  document.documentElement.dataset.ready = String(isEmpty); // which tests and screenshots wait for
  if (isEmpty) return;

  showToolbar();
  panels = await Promise.all(content.runs.map((_, run) => makePanel(run, showRunIfChanged)));
  byId('panels').className = panels.length > 1 ? 'panels two' : 'panels';
  byId('panels').replaceChildren(...panels.map((panel) => panel.node));
  await showRun();
  document.documentElement.dataset.ready = 'true';
}

// Show the sections below the panels, which describe one run.
async function showRun() {
  shownRun = state.active;
  [...byId('run-choice').children].forEach((button, run) => button.setAttribute('aria-pressed', run === shownRun));
  await showThumbnails(byId('thumbnails'), () => panels[state.active].update());
  showHeadsOff(byId('heads-off'));
}

function showRunIfChanged() {
  if (shownRun !== state.active) showRun();
}

function startSaving() {
  const draw = () => drawPicture(panels.map((panel) => panel.picture()), content.documents[state.document].id);
  const name = () => `attention-${state.document + 1}`;
  byId('save-svg').addEventListener('click', () => saveSvg(draw(), name()));
  byId('save-png').addEventListener('click', () => savePng(draw(), name()));
}

function start() {
  readFragment();
  const names = content.runs.map((run) => run.name).join(' and ');
  byId('subtitle').textContent = names;
  document.title = `${names} · headcount`;
  startToolbar();
  startRunChoice();
  startSaving();
  startLive(show);
  addEventListener('hashchange', () => {
    readFragment();
    show();
  });
  // Heat maps are drawn in the colours of the page.
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', showRun);
  show();
}

start();
