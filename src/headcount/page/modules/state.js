// The content of the page and the user's choices, which are stored in the fragment of the URL.

import { readContent } from './dom.js';
import { parseIndex } from './words.js';

export const content = readContent();

export const ORDERS = ['given', 'rouge', 'length', 'difference'];
export const SORTS = ['position', 'importance', 'entropy'];

export const state = initial();

function initial() {
  return {
    document: 0,
    order: 'given', // of the documents
    active: 0, // the run whose heads are shown
    sort: 'position', // of the thumbnails
    runs: content.runs.map(() => ({
      layer: null, // of the attention to the document; null: the mean over all
      head: null,
      tokens: [], // selected tokens of the summary
      source: null, // selected token of the document
      off: [], // heads that are off
      enlarged: null, // the head with the large map, as SITE.LAYER.HEAD
    })),
  };
}

export function documentOf(run) {
  return content.runs[run].documents[state.document];
}

// Go to a document. Selected tokens were those of the previous one.
export function chooseDocument(index) {
  state.document = index;
  for (const choice of state.runs) {
    choice.tokens = [];
    choice.source = null;
  }
}

export function writeFragment() {
  const values = new URLSearchParams();
  values.set('document', state.document + 1);
  if (state.order !== 'given') values.set('order', state.order);
  if (state.active !== 0) values.set('run', state.active + 1);
  if (state.sort !== 'position') values.set('sort', state.sort);
  state.runs.forEach((choice, run) => {
    const set = (name, value) => values.set(`${name}${run + 1}`, value);
    if (choice.layer !== null) set('layer', choice.layer + 1);
    if (choice.head !== null) set('head', choice.head + 1);
    if (choice.tokens.length) set('tokens', choice.tokens.map((token) => token + 1).join('.'));
    if (choice.source !== null) set('source', choice.source + 1);
    if (choice.off.length) set('off', choice.off.join('_'));
    if (choice.enlarged !== null) set('map', choice.enlarged);
  });
  history.replaceState(null, '', `#${values}`);
}

// Read the fragment. A value that is not legal on this page is replaced by its default.
export function readFragment() {
  const values = new URLSearchParams(location.hash.slice(1));
  Object.assign(state, initial());
  state.document = parseIndex(values.get('document'), content.documents.length) ?? 0;
  state.active = parseIndex(values.get('run'), content.runs.length) ?? 0;
  if (ORDERS.includes(values.get('order'))) state.order = values.get('order');
  if (SORTS.includes(values.get('sort'))) state.sort = values.get('sort');
  if (!content.documents.length) return;

  // Numbers in the fragment begin with 1.
  state.runs.forEach((choice, run) => {
    const get = (name) => values.get(`${name}${run + 1}`);
    const about = documentOf(run);
    const layers = about.maps.filter((map) => map.site === 'cross');
    choice.layer = parseIndex(get('layer'), layers.length);
    choice.head = choice.layer === null ? null : parseIndex(get('head'), layers[choice.layer].heads);
    choice.tokens = (get('tokens') ?? '').split('.')
      .map((text) => parseIndex(text, about.written.length))
      .filter((token) => token !== null);
    choice.source = parseIndex(get('source'), about.tokens.length);
    const heads = headNames(run);
    choice.off = (get('off') ?? '').split('_').filter((name) => heads.includes(name));
    choice.enlarged = mapNames(run).includes(get('map')) ? get('map') : null;
  });
}

// Return the names of a run's heads, such as cross.0.3.
export function headNames(run) {
  const names = [];
  for (const block of content.runs[run].blocks) {
    for (let head = 0; head < block.heads; head += 1) names.push(`${block.name}.${head}`);
  }
  return names;
}

// Return the names of the heads that have maps. They differ from `headNames` in a decoder-only model,
// whose attention is shown in three parts.
function mapNames(run) {
  const names = [];
  for (const map of documentOf(run).maps) {
    for (let head = 0; head < map.heads; head += 1) names.push(`${map.site}.${map.layer}.${head}`);
  }
  return names;
}
