// The panel of one run: summary and document token by token, and the details of the selected tokens.

import { copyLegend, drawCopyBar } from './copying.js';
import { describeSource, describeWritten, hint } from './detail.js';
import { element } from './dom.js';
import { addRows, columnOf, loadMaps, toDocument } from './maps.js';
import { content, documentOf, state, writeFragment } from './state.js';
import { tokenList } from './tokens.js';
import { marked, percent } from './words.js';

const ROUGE = ['ROUGE-1', 'ROUGE-2', 'ROUGE-L'];

// Return the panel of a run on the current document. `onChange` is called after a new choice in it.
export async function makePanel(run, onChange) {
  const about = documentOf(run);
  const choice = state.runs[run];
  const maps = await loadMaps(run);
  let attention = toDocument(maps, choice.layer, choice.head);
  let hovered = null; // { written: index } or { source: index }
  let frame = null; // of a repaint that is requested

  const written = tokenList(about.written.map((token) => token.text), {
    label: `Summary by ${content.runs[run].name}, token by token`,
    several: true,
    onHover: (index) => hover(index === null ? null : { written: index }),
    onSelect: (index) => {
      choice.source = null;
      choice.tokens = choice.tokens.includes(index)
        ? choice.tokens.filter((token) => token !== index)
        : [...choice.tokens, index].sort((a, b) => a - b);
      changed();
    },
    onClear: clear,
  });
  const source = tokenList(about.tokens, {
    label: `Document as ${content.runs[run].name} reads it, token by token`,
    several: false,
    onHover: (index) => hover(index === null ? null : { source: index }),
    onSelect: (index) => {
      choice.tokens = [];
      choice.source = choice.source === index ? null : index;
      changed();
    },
    onClear: clear,
  });

  about.written.forEach((token, index) => drawCopyBar(written.items[index], token));

  const detail = element('div', { class: 'detail', role: 'status' });
  const scale = element('div', { class: 'scale', 'aria-hidden': 'true' });
  const node = element('article', { class: 'panel', 'aria-label': content.runs[run].name },
    summaryCard(), documentCard());

  // Repaint once per frame: the pointer may cross many tokens.
  function hover(next) {
    hovered = next;
    if (frame === null) frame = requestAnimationFrame(paint);
  }

  function clear() {
    choice.tokens = [];
    choice.source = null;
    changed();
  }

  function changed() {
    state.active = run;
    writeFragment();
    paint();
    onChange();
  }

  // Show the attention of the hovered token, or else of the selected ones. A hovered token of the
  // summary is added to the selected ones.
  function paint() {
    frame = null;
    const column = hovered?.source ?? (hovered ? null : choice.source);
    let rows = column === null ? choice.tokens : [];
    if (hovered?.written !== undefined && !rows.includes(hovered.written)) {
      rows = [...rows, hovered.written];
    }

    // Colour the document by what the summary attends to, or the summary by what attends to the token.
    const used = column === null ? null : columnOf(attention, column);
    const sum = rows.length ? addRows(attention, rows) : null;
    const most = Math.max(source.paint(sum), written.paint(used));
    written.select(rows);
    source.select(column === null ? [] : [column]);
    scale.hidden = most === 0;
    scale.replaceChildren('0', element('span', { class: 'ramp' }), percent(most));

    if (used !== null) detail.replaceChildren(...describeSource(about, column, used));
    else if (sum !== null) detail.replaceChildren(...describeWritten(about, rows, sum));
    else detail.replaceChildren(hint());
  }

  function summaryCard() {
    const name = content.runs[run].name;
    const heading = element('h2', {}, 'Summary');
    const facts = element('p', { class: 'muted' }, `${name} · ${describeRun(content.runs[run])}`);
    const parts = [heading, facts, written.node];
    parts.push(...copyLegend(content.runs[run]));
    if (!about.finished) parts.push(element('p', { class: 'muted' }, 'It was cut off at its maximum length.'));
    if (about.rouge !== null) parts.push(scores(about.rouge));
    for (const reference of content.documents[state.document].references) {
      parts.push(element('p', { class: 'reference', dir: 'auto' }, element('b', {}, 'Reference '), reference));
    }
    if (run > 0) {
      parts.push(element('p', { class: 'reference', dir: 'auto' }, element('b', {}, `Against ${content.runs[0].name} `),
        ...marked(documentOf(0).summary, about.summary)));
    }
    parts.push(detail);
    return element('section', { class: 'card summary', 'aria-label': `Summary by ${name}` }, ...parts);
  }

  function documentCard() {
    const cut = about.isCut ? ', cut at the maximum length of the model' : '';
    const rounding = about.step > 1 ? `, attention rounded to (k/${255 / about.step})²` : '';
    return element('section', { class: 'card document', 'aria-label': `Document as ${content.runs[run].name} reads it` },
      element('div', { class: 'row' }, element('h2', {}, 'Document'), viewChoice(), scale),
      element('p', { class: 'muted' }, `${about.tokens.length} tokens${cut}${rounding}`),
      source.node);
  }

  // Return the choice of the layer and the head whose attention is shown.
  function viewChoice() {
    const select = element('select', { class: 'view' }, element('option', { value: '' }, 'all layers, mean of heads'));
    for (const map of maps.filter((each) => each.site === 'cross')) {
      const group = element('optgroup', { label: `layer ${map.layer + 1}` });
      if (map.heads > 1) {
        group.append(element('option', { value: `${map.layer}` }, `layer ${map.layer + 1}, mean of heads`));
      }
      for (let head = 0; head < map.heads; head += 1) {
        group.append(element('option', { value: `${map.layer}.${head}` }, `layer ${map.layer + 1}, head ${head + 1}`));
      }
      select.append(group);
    }
    select.value = [choice.layer, choice.head].filter((part) => part !== null).join('.');
    select.addEventListener('change', () => {
      const [layer, head] = select.value.split('.').filter((part) => part !== '').map(Number);
      choice.layer = layer ?? null;
      choice.head = head ?? null;
      attention = toDocument(maps, choice.layer, choice.head);
      changed();
    });
    return element('label', {}, 'Attention ', select);
  }

  paint();
  return {
    node,
    // Show the layer and the head that another section has chosen.
    update: () => {
      attention = toDocument(maps, choice.layer, choice.head);
      node.querySelector('.view').value = [choice.layer, choice.head].filter((part) => part !== null).join('.');
      paint();
    },
    // Return what `drawPicture` draws of this panel.
    picture: () => {
      const rows = choice.source === null ? choice.tokens : [];
      return {
        name: content.runs[run].name,
        view: node.querySelector('.view').selectedOptions[0].textContent,
        written: about.written.map((token) => token.text),
        chosen: rows,
        tokens: about.tokens,
        source: choice.source,
        heat: rows.length ? addRows(attention, rows) : null,
        used: choice.source === null ? null : columnOf(attention, choice.source),
      };
    },
  };
}

function describeRun(run) {
  const heads = [...new Set(run.blocks.map((block) => block.heads))].join('/');
  const parameters = run.parameters < 1e5
    ? run.parameters.toLocaleString('en')
    : `${(run.parameters / 1e6).toFixed(1)} M`;
  return `${run.architecture}, ${heads} heads, ${parameters} parameters`;
}

export function scores(values) {
  const list = element('dl', { class: 'scores' });
  values.forEach((value, index) => {
    list.append(element('div', {}, element('dt', {}, ROUGE[index]), element('dd', {}, value.toFixed(1))));
  });
  return list;
}
