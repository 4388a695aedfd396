// All heads at a glance: a small picture of each head's attention, and a large one of the chosen.

import { element, readingOrder, roving } from './dom.js';
import { largest, levelAt, loadMaps, weightAt } from './maps.js';
import { content, documentOf, SORTS, state, writeFragment } from './state.js';
import { percent, quoted, visible } from './words.js';

const SIDE = 64; // pixels of a thumbnail
const TITLES = {
  encoder: 'Document to document',
  decoder: 'Summary to summary',
  cross: 'Summary to document',
};

// Fill the section of thumbnails for the active run. `onView` is called when the attention that
// the panel shows has changed.
export async function showThumbnails(section, onView) {
  const run = state.active;
  const choice = state.runs[run];
  const maps = await loadMaps(run);
  const { findings } = content.runs[run];
  const hasFindings = Object.keys(findings).length > 0;
  const large = element('div', { class: 'large' });

  const sort = element('select', {}, ...SORTS
    .filter((name) => name !== 'importance' || hasFindings)
    .map((name) => element('option', { value: name }, name)));
  sort.value = state.sort;
  sort.addEventListener('change', () => {
    state.sort = sort.value;
    writeFragment();
    showThumbnails(section, onView);
  });

  const groups = element('div', { class: 'groups' });
  for (const site of ['cross', 'encoder', 'decoder']) {
    const heads = headsOf(maps, site, findings);
    if (heads.length) groups.append(group(site, heads));
  }
  section.replaceChildren(
    element('div', { class: 'row' },
      element('h2', { id: 'thumbnails-title' }, 'All heads'),
      element('label', {}, 'Sorted by ', sort)),
    element('p', { class: 'muted' },
      'Rows attend to columns. The number under a head is on how many tokens its attention is spread.'),
    element('div', { class: 'glance' }, groups, large),
  );
  enlarge(null);

  function group(site, heads) {
    const list = element('div', { class: 'thumbnails', role: 'listbox', 'aria-label': `${TITLES[site]}, heads` });
    const layers = new Set(heads.map((head) => head.map.layer));
    const perLayer = heads.length / layers.size;
    if (state.sort === 'position' && Number.isInteger(perLayer)) {
      list.classList.add('by-position');
      list.style.setProperty('--columns', Math.min(perLayer, 8));
    }
    const items = sorted(heads).map((head) => thumbnail(head, list));
    list.append(...items);
    roving(list, items, readingOrder(items));
    return element('div', {}, element('h3', {}, TITLES[site]), list);
  }

  function thumbnail(head, list) {
    const canvas = element('canvas', { 'aria-hidden': 'true' });
    draw(canvas, head.map, head.index, SIDE);
    const about = `layer ${head.map.layer + 1}, head ${head.index + 1}, spread over ${head.entropy.toFixed(1)} tokens`;
    const caption = element('span', { class: 'caption', 'aria-hidden': 'true' },
      `${head.map.layer + 1}.${head.index + 1}`, element('span', { class: 'muted' }, head.entropy.toFixed(1)));
    const item = element('div', {
      class: 'thumbnail', role: 'option', 'data-head': head.name,
      'aria-selected': String(choice.enlarged === head.name),
    }, canvas, caption, element('span', { class: 'spoken' }, about),
    ...head.roles.map((role) => element('span', { class: 'badge' }, role)));
    const choose = () => {
      choice.enlarged = choice.enlarged === head.name ? null : head.name;
      for (const other of list.closest('.groups').querySelectorAll('[role=option]')) {
        other.setAttribute('aria-selected', other.dataset.head === choice.enlarged);
      }
      enlarge(head);
    };
    item.addEventListener('click', choose);
    item.addEventListener('keydown', (event) => {
      if (event.key !== 'Enter' && event.key !== ' ') return;
      event.preventDefault();
      choose();
    });
    return item;
  }

  // Show the chosen head large; a head of the attention to the document becomes the panel's view.
  function enlarge(clicked) {
    if (clicked !== null) {
      if (clicked.map.site === 'cross') {
        const isChosen = choice.enlarged !== null;
        choice.layer = isChosen ? clicked.map.layer : null;
        choice.head = isChosen ? clicked.index : null;
        onView();
      }
      writeFragment();
    }
    large.replaceChildren();
    large.parentElement.classList.toggle('open', choice.enlarged !== null);
    if (choice.enlarged === null) return;
    const [site, layer, index] = choice.enlarged.split('.');
    const map = maps.find((each) => each.site === site && each.layer === Number(layer));
    large.append(picture(map, Number(index), documentOf(run)));
  }
}

function headsOf(maps, site, findings) {
  const heads = [];
  for (const map of maps.filter((each) => each.site === site)) {
    for (let index = 0; index < map.heads; index += 1) {
      const found = findings[`${map.block}.${index}`];
      heads.push({
        map,
        index,
        name: `${map.site}.${map.layer}.${index}`,
        entropy: map.entropy[index],
        importance: found?.importance ?? 0,
        roles: found?.roles ?? [],
      });
    }
  }
  return heads;
}

function sorted(heads) {
  if (state.sort === 'entropy') return [...heads].sort((a, b) => a.entropy - b.entropy);
  if (state.sort === 'importance') return [...heads].sort((a, b) => b.importance - a.importance);
  return heads;
}

// Draw a head's attention. Where there are more weights than pixels the largest one shows.
function draw(canvas, map, head, side) {
  const width = Math.min(side, map.columns);
  const height = Math.min(side, map.rows);
  canvas.width = width;
  canvas.height = height;
  const levels = new Uint8Array(width * height);
  for (let row = 0; row < map.rows; row += 1) {
    const y = Math.floor(row * height / map.rows);
    for (let column = 0; column < map.columns; column += 1) {
      const cell = y * width + Math.floor(column * width / map.columns);
      levels[cell] = Math.max(levels[cell], levelAt(map, head, row, column));
    }
  }

  const style = getComputedStyle(document.documentElement);
  const from = channels(style.getPropertyValue('--map-low'));
  const to = channels(style.getPropertyValue('--map-high'));
  const pixels = new ImageData(width, height);
  levels.forEach((level, cell) => {
    for (let channel = 0; channel < 3; channel += 1) {
      pixels.data[4 * cell + channel] = from[channel] + (to[channel] - from[channel]) * level / 255;
    }
    pixels.data[4 * cell + 3] = 255;
  });
  canvas.getContext('2d').putImageData(pixels, 0, 0);
}

function channels(colour) {
  return [1, 3, 5].map((begin) => parseInt(colour.trim().slice(begin, begin + 2), 16));
}

// One head, large: the weight under the pointer, and in words what stands out.
function picture(map, head, about) {
  const title = `${TITLES[map.site]}, layer ${map.layer + 1}, head ${head + 1}`;
  const canvas = element('canvas', { class: 'attention', role: 'img', 'aria-label': title });
  draw(canvas, map, head, 512);
  canvas.style.setProperty('--ratio', `${map.columns} / ${map.rows}`);
  const written = ['(start)', ...about.written.map((token) => token.text)];
  // A row of the attention within the summary is the token that was read, one before what it wrote.
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
    const [from, to] = [name(rowNames, row), name(columnNames, column)];
    readout.replaceChildren(element('b', {}, from), ' to ', element('b', {}, to), ` ${weight}`);
  });

  const strongest = [];
  for (let row = 0; row < map.rows; row += 1) {
    const weights = Float32Array.from({ length: map.columns }, (_, column) => weightAt(map, head, row, column));
    const [column] = largest(weights, 1);
    strongest.push({ row, column, weight: weights[column] });
  }
  strongest.sort((a, b) => b.weight - a.weight);
  const list = element('ol', { class: 'strongest' });
  for (const { row, column, weight } of strongest.slice(0, 5)) {
    const [from, to] = [quoted(name(rowNames, row)), quoted(name(columnNames, column))];
    list.append(element('li', {}, `${from} to ${to} ${percent(weight)}`));
  }
  const parts = [
    element('h3', {}, title),
    canvas, readout,
    element('p', { class: 'label' }, 'Strongest'), list,
  ];
  if (map.span > 1) parts.push(element('p', { class: 'muted' }, `A cell stands for ${map.span} × ${map.span} tokens.`));
  return element('figure', {}, ...parts);
}
