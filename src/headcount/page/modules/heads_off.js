// Heads off: what the model writes without some of its heads.

import { element, readingOrder, roving } from './dom.js';
import { summarizeWithout } from './live.js';
import { scores } from './panel.js';
import { content, documentOf, headNames, state, writeFragment } from './state.js';
import { changedWords, marked, signed } from './words.js';

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
  const numbers = about.rouge === null
    ? 'Numbers count changed words.'
    : 'Numbers are the change of ROUGE-L on this document.';
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
    element('p', { class: 'muted' }, content.live ? how : `${how} ${numbers}`), table, result,
  );
  refresh();

  function rowsOf(site) {
    const rows = element('div', { class: 'site' });
    const blocks = content.runs[run].blocks.filter((block) => block.name.startsWith(`${site}.`));
    const all = headNames(run).filter((name) => name.startsWith(`${site}.`));
    rows.append(element('div', { class: 'switch-row' }, blocks.length > 1 && all.length > 1
      ? button(all, SITES[site], 'All heads: ', 'all')
      : element('span', { class: 'label' }, SITES[site])));
    for (const block of blocks) {
      const heads = all.filter((name) => name.startsWith(`${block.name}.`));
      const layer = Number(block.name.split('.')[1]) + 1;
      const row = element('div', { class: 'switch-row' });
      row.append(heads.length > 1
        ? button(heads, `Layer ${layer}`, `${SITES[site]}, `, 'layer')
        : element('span', { class: 'label' }, `Layer ${layer}`));
      heads.forEach((name, index) => {
        row.append(button([name], `${index + 1}`, `${SITES[site]}, layer ${layer}, head `, 'head'));
      });
      rows.append(row);
    }
    return rows;
  }

  // A switch for some heads. `before` is what only a screen reader says before its text.
  function button(heads, text, before, kind) {
    const node = element('button', { type: 'button', class: `switch ${kind}`, 'aria-pressed': 'false' },
      element('span', {}, spoken(before), text, spoken(' off ')));
    const found = precomputed(about, run, heads);
    if (found !== null) {
      const [summary, rouge] = found;
      const change = rouge === null ? 0 : rouge[2] - about.rouge[2];
      if (change < -0.05 || (rouge === null && summary !== about.summary)) node.classList.add('worse');
      if (change > 0.05) node.classList.add('better');
      const effect = rouge === null ? String(changedWords(about.summary, summary)) : signed(change);
      node.append(element('span', { class: 'effect' }, effect));
    }
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
        if (asked === choice.off) result.replaceChildren(element('p', { class: 'error' }, error.message));
        return;
      }
      if (asked !== choice.off) return;
    }
    if (found === null) {
      result.replaceChildren(element('p', { class: 'muted' },
        'This combination is not in the file; “headcount serve” generates any.'));
      return;
    }
    const [summary, rouge] = found;
    const count = changedWords(about.summary, summary);
    const change = count === 0 ? 'the same summary' : `${count} words changed`;
    const parts = [
      element('p', { class: 'label' }, `Without ${describe(choice.off)}: ${change}`),
      element('p', { class: 'difference', dir: 'auto' }, ...marked(about.summary, summary)),
    ];
    if (rouge !== null) parts.push(scores(rouge));
    result.replaceChildren(...parts);
  }
}

function spoken(text) {
  return element('span', { class: 'spoken' }, text);
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
