// The section of the summaries that the model generates without some of its heads.

import { element, readingOrder, roving } from './dom.js';
import { summarizeWithout } from './live.js';
import { scores } from './panel.js';
import { content, documentOf, headNames, state, writeFragment } from './state.js';
import { changedWords, marked, signed } from './words.js';

const SITES = { encoder: 'Encoder', decoder: 'Decoder', cross: 'Cross-attention' };
const EQUAL = 0.05; // a smaller change of ROUGE has no colour

// Fill the section for the active run.
export function showHeadsOff(section) {
  const run = state.active;
  const about = documentOf(run);
  const heading = element('h2', { id: 'heads-off-title' }, 'Heads off');
  if (!content.live && about.off === undefined) {
    section.replaceChildren(heading, element('p', { class: 'muted' },
      'This page was made without them; “headcount page” generates the summary without each head.'));
    return;
  }

  // The state that the functions below share; each button is { node, heads }.
  const view = {
    run, about, choice: state.runs[run], buttons: [], result: element('div', { class: 'result', role: 'status' }),
  };
  const none = element('button', { type: 'button' }, 'All heads on');
  none.addEventListener('click', () => choose(view, []));
  section.replaceChildren(
    element('div', { class: 'row' }, heading, none),
    element('p', { class: 'muted' }, explanation(about)), switchboard(view), view.result,
  );
  refresh(view);
}

function explanation(about) {
  if (content.live) return 'Switch any heads off, and the model generates the summary again.';
  const numbers = about.rouge === null
    ? 'Numbers are counts of changed words.'
    : 'Numbers are the change of ROUGE-L on this document.';
  return `The summary without one head, a layer, or all heads of a kind. ${numbers}`;
}

// Return the switches: for each kind of attention all heads, layers, and single heads.
function switchboard(view) {
  const board = element('div', { class: 'switches', role: 'group', 'aria-label': 'Heads to switch off' });
  const { blocks } = content.runs[view.run];
  for (const site of new Set(blocks.map((block) => block.name.split('.')[0]))) {
    board.append(switchesOf(view, site, blocks.filter((block) => block.name.startsWith(`${site}.`))));
  }
  const nodes = view.buttons.map((each) => each.node);
  roving(board, nodes, readingOrder(nodes));
  return board;
}

function switchesOf(view, site, blocks) {
  const all = headNames(view.run).filter((name) => name.startsWith(`${site}.`));
  const title = blocks.length > 1 && all.length > 1
    ? switchFor(view, all, SITES[site], 'All heads: ', 'all')
    : element('span', { class: 'label' }, SITES[site]);
  const rows = element('div', { class: 'site' }, element('div', { class: 'switch-row' }, title));
  for (const block of blocks) {
    const heads = all.filter((name) => name.startsWith(`${block.name}.`));
    const layer = `Layer ${Number(block.name.split('.')[1]) + 1}`;
    const row = element('div', { class: 'switch-row' }, heads.length > 1
      ? switchFor(view, heads, layer, `${SITES[site]}, `, 'layer')
      : element('span', { class: 'label' }, layer));
    heads.forEach((name, index) => {
      const before = `${SITES[site]}, ${layer.toLowerCase()}, head `;
      row.append(switchFor(view, [name], `${index + 1}`, before, 'head'));
    });
    rows.append(row);
  }
  return rows;
}

// Return a switch for some heads. Only screen readers read `before`, in front of its text.
function switchFor(view, heads, text, before, kind) {
  const node = element('button', { type: 'button', class: `switch ${kind}`, 'aria-pressed': 'false' },
    element('span', {}, spoken(before), text, spoken(' off ')));
  const found = precomputed(view, heads);
  if (found !== null) showEffect(node, view.about, found);
  node.addEventListener('click', () => choose(view, nextChoice(view, heads)));
  view.buttons.push({ node, heads });
  return node;
}

function showEffect(node, about, [summary, rouge]) {
  const change = rouge === null ? 0 : rouge[2] - about.rouge[2];
  if (change < -EQUAL || (rouge === null && summary !== about.summary)) node.classList.add('worse');
  if (change > EQUAL) node.classList.add('better');
  const effect = rouge === null ? String(changedWords(about.summary, summary)) : signed(change);
  node.append(element('span', { class: 'effect' }, effect));
}

// Return the heads that are off after a click. A file has the summaries of one set at a time, a server
// generates those of any combination.
function nextChoice({ run, choice }, heads) {
  const areOff = heads.every((name) => choice.off.includes(name));
  if (!content.live) return areOff && choice.off.length === heads.length ? [] : heads;
  return headNames(run).filter((name) => (heads.includes(name) ? !areOff : choice.off.includes(name)));
}

function choose(view, heads) {
  view.choice.off = heads;
  writeFragment();
  refresh(view);
}

// Show which heads are off, and the summary without them.
async function refresh(view) {
  const { off } = view.choice;
  for (const { node, heads } of view.buttons) {
    const isPressed = content.live ? heads.every((name) => off.includes(name)) : heads.join() === off.join();
    node.setAttribute('aria-pressed', isPressed);
  }
  if (!off.length) {
    view.result.replaceChildren();
    return;
  }

  const found = precomputed(view, off);
  if (found !== null) showResult(view, found);
  else if (content.live) await requestResult(view, off);
  else showMessage(view, 'muted', 'This combination is not in the file; “headcount serve” generates any.');
}

// Let the server generate the summary. The heads may have changed by the time it answers, and then its
// answer is not shown.
async function requestResult(view, off) {
  showMessage(view, 'muted', 'Generating the summary …');
  try {
    const found = await summarizeWithout(view.run, off);
    if (off === view.choice.off) showResult(view, found);
  } catch (error) {
    if (off === view.choice.off) showMessage(view, 'error', error.message);
  }
}

function showMessage(view, kind, text) {
  view.result.replaceChildren(element('p', { class: kind }, text));
}

function showResult({ about, choice, result }, [summary, rouge]) {
  const count = changedWords(about.summary, summary);
  const changed = `${count} ${count === 1 ? 'word' : 'words'} changed`;
  const change = count === 0 ? 'the same summary' : changed;
  result.replaceChildren(
    element('p', { class: 'label' }, `Without ${describeHeads(choice.off)}: ${change}`),
    element('p', { class: 'difference', dir: 'auto' }, ...marked(about.summary, summary)),
  );
  if (rouge !== null) result.append(scores(rouge));
}

function spoken(text) {
  return element('span', { class: 'spoken' }, text);
}

// Return [summary, ROUGE] without some heads if it is on the page, else null.
function precomputed({ run, about }, heads) {
  if (about.off === undefined) return null;
  const index = content.runs[run].sets.findIndex((set) => set.join() === heads.join());
  return index < 0 ? null : about.off[index];
}

function describeHeads(heads) {
  if (heads.length > 4) return `${heads.length} heads`;
  return heads.map((name) => {
    const [site, layer, head] = name.split('.');
    return `${SITES[site].toLowerCase()} ${Number(layer) + 1}.${Number(head) + 1}`;
  }).join(', ');
}
