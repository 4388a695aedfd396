// Heat maps of attention: rows attend to columns, and a stronger colour is a larger weight.

import { levelAt } from './maps.js';

// Draw a head's attention and return the weight of the strongest colour: 1, so that heat maps can be
// compared, or with `isRelative` the largest weight of this one. A pixel of several weights shows the
// largest.
export function drawHeatmap(canvas, map, head, side, { isRelative = false } = {}) {
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

  const top = isRelative ? levels.reduce((a, b) => Math.max(a, b), 1) : 255;
  const style = getComputedStyle(document.documentElement);
  const from = channels(style.getPropertyValue('--map-low'));
  const to = channels(style.getPropertyValue('--map-high'));

  // Interpolate between the two colours of the page.
  const pixels = new ImageData(width, height);
  levels.forEach((level, cell) => {
    for (let channel = 0; channel < 3; channel += 1) {
      pixels.data[4 * cell + channel] = from[channel] + (to[channel] - from[channel]) * level / top;
    }
    pixels.data[4 * cell + 3] = 255;
  });
  canvas.getContext('2d').putImageData(pixels, 0, 0);
  return (top / 255) ** 2;
}

function channels(colour) {
  return [1, 3, 5].map((begin) => parseInt(colour.trim().slice(begin, begin + 2), 16));
}
