// Words of texts, their differences, and the format of numbers.

import { element } from './dom.js';

export function wordsOf(text) {
  return text.split(/\s+/u).filter((word) => word !== '');
}

// Return the words of both texts in order, each `same`, `removed` or `added`, by their longest
// common subsequence.
export function difference(before, after) {
  const from = wordsOf(before);
  const to = wordsOf(after);

  // lengths[i][j] is the length of the longest common subsequence of from[i...] and to[j...].
  const lengths = Array.from({ length: from.length + 1 }, () => new Uint16Array(to.length + 1));
  for (let i = from.length - 1; i >= 0; i -= 1) {
    for (let j = to.length - 1; j >= 0; j -= 1) {
      lengths[i][j] = from[i] === to[j]
        ? lengths[i + 1][j + 1] + 1
        : Math.max(lengths[i + 1][j], lengths[i][j + 1]);
    }
  }

  // Follow it from the start; where a word can be removed or added, removing comes first.
  const parts = [];
  let i = 0;
  let j = 0;
  while (i < from.length || j < to.length) {
    if (i < from.length && j < to.length && from[i] === to[j]) {
      parts.push({ kind: 'same', word: from[i] });
      i += 1;
      j += 1;
    } else if (j >= to.length || (i < from.length && lengths[i + 1][j] >= lengths[i][j + 1])) {
      parts.push({ kind: 'removed', word: from[i] });
      i += 1;
    } else {
      parts.push({ kind: 'added', word: to[j] });
      j += 1;
    }
  }
  return parts;
}

// Return the number of words to remove and to add that turn one text into another.
export function changedWords(before, after) {
  return difference(before, after).filter((part) => part.kind !== 'same').length;
}

// Return the words of a text as elements, with <del> and <ins> where they differ from an earlier text.
export function marked(before, after) {
  const nodes = [];
  for (const part of difference(before, after)) {
    const name = { same: 'span', removed: 'del', added: 'ins' }[part.kind];
    nodes.push(element(name, {}, part.word), ' ');
  }
  return nodes;
}

// Return the set of words of texts, without case and punctuation. A dash between blanks is no word.
export function vocabularyOf(texts) {
  return new Set(texts.flatMap((text) => wordsOf(text).map(bare)).filter((word) => word !== ''));
}

// Return the words of a text as nodes; words of a vocabulary are in bold.
export function emphasized(text, vocabulary) {
  const nodes = [];
  for (const word of wordsOf(text)) {
    nodes.push(vocabulary.has(bare(word)) ? element('b', {}, word) : word, ' ');
  }
  return nodes;
}

function bare(word) {
  return word.toLowerCase().replace(/^[^\p{L}\p{N}]+|[^\p{L}\p{N}]+$/gu, '');
}

export function percent(share) {
  const value = 100 * share;
  return `${value.toFixed(value < 10 ? 1 : 0)} %`;
}

export function signed(value, digits = 1) {
  const text = Math.abs(value).toFixed(digits);
  if (Number(text) === 0) return text;
  return `${value < 0 ? '−' : '+'}${text}`;
}

export function excerpt(text, length) {
  const flat = wordsOf(text).join(' ');
  return flat.length > length ? `${flat.slice(0, length - 1)}…` : flat;
}

// Return the visible text of a token: blanks and line breaks are shown by signs.
export function visible(token) {
  if (token === '') return '·';
  if (token.trim() !== '') return token.trim();
  return token.includes('\n') ? '↵' : '␣';
}

export function quoted(token) {
  return `“${visible(token)}”`;
}

// Return the index, from zero, that a text such as '3' in the fragment of the URL stands for; null if it
// is not a number from 1 to `count`.
export function parseIndex(text, count) {
  if (!/^[0-9]{1,6}$/.test(text ?? '')) return null;
  const index = Number(text) - 1;
  return index >= 0 && index < count ? index : null;
}

// Return lines of the report as paragraphs and lists. A line that begins with a hyphen is an item of a
// list, a text in backquotes is code.
export function prose(lines) {
  const nodes = [];
  for (const line of lines) {
    const isItem = line.startsWith('- ');
    const texts = (isItem ? line.slice(2) : line).split('`')
      .map((text, index) => (index % 2 ? element('code', {}, text) : text));
    if (!isItem) nodes.push(element('p', {}, ...texts));
    else if (nodes.at(-1)?.localName === 'ul') nodes.at(-1).append(element('li', {}, ...texts));
    else nodes.push(element('ul', {}, element('li', {}, ...texts)));
  }
  return nodes;
}
