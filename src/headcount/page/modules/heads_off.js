// Heads off: what the model writes without some of its heads.

import { element, readingOrder, roving } from './dom.js';
import { summarizeWithout } from './live.js';
import { marked, scores } from './panel.js';
import { content, documentOf, headNames, state, writeFragment } from './state.js';
import { changedWords, signed } from './words.js';

const SITES = { encoder: 'Encoder', decoder: 'Decoder', cross: 'Cross-attention' };

// Fill the section for the active run.
export function showHeadsOff(section) {
  const run = state.active;
  const choice = state.runs[run];
  const about = documentOf(run);
  const result = element('div', { class: 'result', role: 'status' });
  const heading = element('h2', { id: 'heads-off-title' }, 'Heads off');
  if (!content.live && about.off === undefined) {
    section.replaceChildren(heading, element('p', { class: 'muted' },
      'This page was made without them; “headcount page” writes the summary without each head.'));
    return;
  }

  const how = content.live
    ? 'Switch any heads off and the model writes the summary again.'
    : 'What the model writes without one head, a layer, or all heads of a kind.';
  const unit = about.rouge === null ? 'Numbers count changed words.' : 'Numbers are the change of ROUGE-L on this document.';
  const table = element('div', { class: 'switches', role: 'group', 'aria-label': 'Heads to switch off' });
  const buttons = [];
  for (const site of new Set(content.runs[run].blocks.map((block) => block.name.split('.')[0]))) {
    table.append(rowsOf(site));
  }
  roving(table, buttons.map((each) => each.node), readingOrder(buttons.map((each) => each.node)));
  const none = element('button', { type: 'button' }, 'All heads on');
  none.addEventListener('click', () => choose([]));
  section.replaceChildren(
    element('div', { class: 'row' }, heading, none),
    element('p', { class: 'muted' }, `${how} ${unit}`), table, result,
  );
  refresh();

  function rowsOf(site) {
    const rows = element('div', { class: 'site' });
    const blocks = content.runs[run].blocks.filter((block) => block.name.startsWith(`${site}.`));
    const all = headNames(run).filter((name) => name.startsWith(`${site}.`));
    rows.append(element('div', { class: 'switch-row' }, blocks.length > 1
      ? button(all, SITES[site], `all heads of the ${SITES[site].toLowerCase()}`, 'all')
      : element('span', { class: 'label' }, SITES[site])));
    for (const block of blocks) {
      const heads = all.filter((name) => name.startsWith(`${block.name}.`));
      const layer = Number(block.name.split('.')[1]) + 1;
      const where = `${SITES[site]}, layer ${layer}`;
      const row = element('div', { class: 'switch-row' });
      row.append(heads.length > 1
        ? button(heads, `Layer ${layer}`, where, 'layer')
        : element('span', { class: 'label' }, `Layer ${layer}`));
      heads.forEach((name, index) => row.append(button([name], `${index + 1}`, `${where}, head ${index + 1}`, 'head')));
      rows.append(row);
    }
    return rows;
  }

  function button(heads, text, label, kind) {
    const node = element('button', { type: 'button', class: `switch ${kind}`, 'aria-pressed': 'false' }, text);
    const found = precomputed(about, run, heads);
    let effect = '';
    if (found !== null) {
      const [summary, rouge] = found;
      const isWorse = rouge === null ? summary !== about.summary : rouge[2] < about.rouge[2] - 0.05;
      const isBetter = rouge !== null && rouge[2] > about.rouge[2] + 0.05;
      effect = rouge === null ? String(changedWords(about.summary, summary)) : signed(rouge[2] - about.rouge[2]);
      if (isWorse) node.classList.add('worse');
      if (isBetter) node.classList.add('better');
      node.append(element('span', { class: 'effect' }, effect));
    }
    node.setAttribute('aria-label', effect === '' ? `${label} off` : `${label} off, ${effect}`);
    node.addEventListener('click', () => choose(next(heads)));
    buttons.push({ node, heads });
    return node;
  }

  // In a file one set of heads is off at a time; live any heads.
  function next(heads) {
    const areOff = heads.every((name) => choice.off.includes(name));
    if (!content.live) return areOff && choice.off.length === heads.length ? [] : heads;
    return headNames(run).filter((name) => (heads.includes(name) ? !areOff : choice.off.includes(name)));
  }

  function choose(heads) {
    choice.off = heads;
    writeFragment();
    refresh();
  }

  async function refresh() {
    for (const { node, heads } of buttons) {
      const isPressed = content.live
        ? heads.every((name) => choice.off.includes(name))
        : heads.join() === choice.off.join();
      node.setAttribute('aria-pressed', isPressed);
    }
    if (!choice.off.length) {
      result.replaceChildren();
      return;
    }
    let found = precomputed(about, run, choice.off);
    if (found === null && content.live) {
      const asked = choice.off;
      result.replaceChildren(element('p', { class: 'muted' }, 'The model is writing …'));
      try {
        found = await summarizeWithout(run, asked);
      } catch (error) {
        found = null;
        result.replaceChildren(element('p', { class: 'error' }, error.message));
      }
      if (asked !== choice.off || found === null) return;
    }
    if (found === null) {
      result.replaceChildren(element('p', { class: 'muted' }, 'This combination is not in the file; “headcount serve” generates any.'));
      return;
    }
    const [summary, rouge] = found;
    const count = changedWords(about.summary, summary);
    const parts = [
      element('p', { class: 'label' }, `Without ${describe(choice.off)}: ${count === 0 ? 'the same summary' : `${count} words changed`}`),
      element('p', { class: 'difference', dir: 'auto' }, ...marked(about.summary, summary)),
    ];
    if (rouge !== null) parts.push(scores(rouge));
    result.replaceChildren(...parts);
  }
}

// Return [summary, ROUGE] without some heads if it is on the page, else null.
function precomputed(about, run, heads) {
  if (about.off === undefined) return null;
  const index = content.runs[run].sets.findIndex((set) => set.join() === heads.join());
  return index < 0 ? null : about.off[index];
}

function describe(heads) {
  if (heads.length > 4) return `${heads.length} heads`;
  return heads.map((name) => {
    const [site, layer, head] = name.split('.');
    return `${SITES[site].toLowerCase()} ${Number(layer) + 1}.${Number(head) + 1}`;
  }).join(', ');
}
