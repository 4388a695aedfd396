// All heads at a glance: a small heat map of each head's attention, and a large one of the chosen.

import { element, readingOrder, roving } from './dom.js';
import { enlargedMap, TITLES } from './enlarged.js';
import { drawHeatmap } from './heatmap.js';
import { loadMaps } from './maps.js';
import { content, documentOf, SORTS, state, writeFragment } from './state.js';

const SIDE = 64; // pixels of a thumbnail

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
  for (const site of ['cross', 'decoder', 'encoder']) {
    const heads = headsOf(maps, site, findings);
    if (heads.length) groups.append(group(site, heads));
  }
  section.replaceChildren(
    element('div', { class: 'row' },
      element('h2', { id: 'thumbnails-title' }, 'All heads'),
      element('label', {}, 'Sorted by ', sort)),
    element('p', { class: 'muted' },
      'Rows attend to columns. The number under a head is the number of tokens that its attention is spread over, '
      + 'as the mean perplexity of its rows.'),
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
    drawHeatmap(canvas, head.map, head.index, SIDE);
    const spread = `spread over ${head.perplexity.toFixed(1)} tokens`;
    const about = `layer ${head.map.layer + 1}, head ${head.index + 1}, ${spread}`;
    const caption = element('span', { class: 'caption', 'aria-hidden': 'true' },
      `${head.map.layer + 1}.${head.index + 1}`, element('span', { class: 'muted' }, head.perplexity.toFixed(1)));
    const item = element('div', {
      class: 'thumbnail', role: 'option', 'data-head': head.name,
      'aria-selected': String(choice.enlarged === head.name),
    }, canvas, caption, element('span', { class: 'spoken' }, about),
    ...head.roles.map((role) => element('span', { class: 'badge' }, role)));

    // A second click on the chosen head closes its large map.
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

  // Show the chosen head large. If it attends to the document, the panel shows its attention too.
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
    large.append(enlargedMap(map, Number(index), documentOf(run)));
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
        perplexity: map.perplexity[index],
        importance: found?.importance ?? 0,
        roles: found?.roles ?? [],
      });
    }
  }
  return heads;
}

function sorted(heads) {
  if (state.sort === 'entropy') return [...heads].sort((a, b) => a.perplexity - b.perplexity);
  if (state.sort === 'importance') return [...heads].sort((a, b) => b.importance - a.importance);
  return heads;
}
