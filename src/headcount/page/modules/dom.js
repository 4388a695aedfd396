// Elements of the page. Text becomes text nodes and attributes are set by name, so that no text is ever
// parsed as HTML.

const SVG = 'http://www.w3.org/2000/svg';

// Return a new element. Children are elements or texts; a null attribute is left out.
export function element(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

export function svgElement(name, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, name), attributes, children);
}

function fill(node, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== null) node.setAttribute(key, value);
  }
  node.append(...children.filter((child) => child !== null));
  return node;
}

export function byId(id) {
  return document.getElementById(id);
}

// Return the content of the page, which is JSON in the file.
export function readContent() {
  return JSON.parse(byId('data').textContent);
}

// Move the focus among elements by arrow keys (a roving tabindex): Tab reaches one of them only.
// `neighbour(index, key)` returns the next index, or null for a key that does not move.
export function roving(container, items, neighbour) {
  items.forEach((item, index) => { item.tabIndex = index === 0 ? 0 : -1; });
  container.addEventListener('keydown', (event) => {
    const index = items.indexOf(document.activeElement);
    if (index < 0 || event.altKey || event.ctrlKey || event.metaKey) return;
    const next = neighbour(index, event.key);
    if (next === null || !items[next]) return;
    event.preventDefault();
    items[next].focus();
  });
  container.addEventListener('focusin', (event) => {
    if (!items.includes(event.target)) return;
    for (const item of items) item.tabIndex = item === event.target ? 0 : -1;
  });
}

// Return a `neighbour` for elements in reading order; up and down go to the nearest element of the
// previous or next line on screen.
export function readingOrder(items) {
  return (index, key) => {
    if (key === 'ArrowRight') return Math.min(index + 1, items.length - 1);
    if (key === 'ArrowLeft') return Math.max(index - 1, 0);
    if (key === 'Home') return 0;
    if (key === 'End') return items.length - 1;
    if (key === 'ArrowDown') return onNextLine(items, index, 1);
    if (key === 'ArrowUp') return onNextLine(items, index, -1);
    return null;
  };
}

// Return the element of the next line that is nearest to this one; `direction` is 1 or -1.
function onNextLine(items, index, direction) {
  const from = items[index].getBoundingClientRect();
  let line = null;
  let best = index;
  let distance = Infinity;
  for (let next = index + direction; items[next]; next += direction) {
    const box = items[next].getBoundingClientRect();
    if (Math.abs(box.top - from.top) < 4) continue;
    if (line !== null && Math.abs(box.top - line) >= 4) break;
    line = box.top;
    const gap = Math.abs(box.left - from.left);
    if (gap >= distance) continue;
    best = next;
    distance = gap;
  }
  return best;
}
