// Attention weights, one byte each (see maps.py), unpacked when their document is first shown.

import { byId } from './dom.js';
import { documentOf } from './state.js';

const WEIGHTS = Float32Array.from({ length: 256 }, (_, level) => (level / 255) ** 2);
const unpacked = new Map(); // by the name of the maps
const packed = new Map(); // by name; only those that the server sent, the others are in the file

export function addMaps(name, text) {
  packed.set(name, text);
}

// Return the maps of the current document for a run, with their bytes.
export async function loadMaps(run) {
  const about = documentOf(run);
  if (!unpacked.has(about.mapsName)) {
    const bytes = await unpack(packed.get(about.mapsName) ?? byId(about.mapsName).textContent);
    let begin = 0;
    const maps = about.maps.map((map) => {
      const length = map.heads * map.rows * map.columns;
      begin += length;
      return { ...map, bytes: bytes.subarray(begin - length, begin) };
    });
    unpacked.set(about.mapsName, maps);
  }
  return unpacked.get(about.mapsName);
}

async function unpack(text) {
  const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('deflate-raw'));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

export function weightAt(map, head, row, column) {
  return WEIGHTS[levelAt(map, head, row, column)];
}

export function levelAt(map, head, row, column) {
  return map.bytes[(head * map.rows + row) * map.columns + column];
}

// Return the attention of summary tokens to document tokens, [rows x columns], as the mean over heads.
// `layer` and `head` are null for all.
export function toDocument(maps, layer, head) {
  const chosen = maps.filter((map) => map.site === 'cross' && (layer === null || map.layer === layer));
  const { rows, columns } = chosen[0];
  const mean = new Float32Array(rows * columns);
  let heads = 0;
  for (const map of chosen) {
    for (let index = 0; index < map.heads; index += 1) {
      if (head !== null && head !== index) continue;
      heads += 1;
      const begin = index * rows * columns;
      for (let cell = 0; cell < mean.length; cell += 1) mean[cell] += WEIGHTS[map.bytes[begin + cell]];
    }
  }
  for (let cell = 0; cell < mean.length; cell += 1) mean[cell] /= Math.max(1, heads);
  return { rows, columns, mean };
}

// Return the sum of the attention of some summary tokens, [columns].
export function addRows({ columns, mean }, rows) {
  const sum = new Float32Array(columns);
  for (const row of rows) {
    for (let column = 0; column < columns; column += 1) sum[column] += mean[row * columns + column];
  }
  return sum;
}

// Return the attention of each summary token to a document token, [rows].
export function columnOf({ rows, columns, mean }, column) {
  return Float32Array.from({ length: rows }, (_, row) => mean[row * columns + column]);
}

// Return the indices of the largest values, the largest first.
export function largest(values, number) {
  const order = Array.from(values.keys()).sort((a, b) => values[b] - values[a]);
  return order.slice(0, number);
}
