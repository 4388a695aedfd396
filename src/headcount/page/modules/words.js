// Texts as words: differences, numbers, excerpts.

export function wordsOf(text) {
  return text.split(/\s+/u).filter((word) => word !== '');
}

// Return the words of both texts in order, each `same`, `removed` or `added`, by their longest
// common subsequence.
export function difference(before, after) {
  const from = wordsOf(before);
  const to = wordsOf(after);
  const lengths = Array.from({ length: from.length + 1 }, () => new Uint16Array(to.length + 1));
  for (let i = from.length - 1; i >= 0; i -= 1) {
    for (let j = to.length - 1; j >= 0; j -= 1) {
      lengths[i][j] = from[i] === to[j]
        ? lengths[i + 1][j + 1] + 1
        : Math.max(lengths[i + 1][j], lengths[i][j + 1]);
    }
  }

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

// Return how many words have to be removed or added to make one text of another.
export function changedWords(before, after) {
  return difference(before, after).filter((part) => part.kind !== 'same').length;
}

export function percent(share) {
  const value = 100 * share;
  return `${value.toFixed(value < 10 ? 1 : 0)} %`;
}

export function signed(value) {
  const text = Math.abs(value).toFixed(1);
  if (text === '0.0') return '0.0';
  return `${value < 0 ? '−' : '+'}${text}`;
}

export function excerpt(text, length) {
  const flat = wordsOf(text).join(' ');
  return flat.length > length ? `${flat.slice(0, length - 1)}…` : flat;
}

// A token as a reader can see it: blanks and line breaks by their signs.
export function visible(token) {
  if (token === '') return '·';
  if (token.trim() !== '') return token.trim();
  return token.includes('\n') ? '↵' : '␣';
}

export function quoted(token) {
  return `“${visible(token)}”`;
}
