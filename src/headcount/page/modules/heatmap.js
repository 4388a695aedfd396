// Attention as a picture: rows attend to columns, darker is more.

import { levelAt } from './maps.js';

// Draw a head's attention. Where there are more weights than pixels the largest one shows.
export function drawHeatmap(canvas, map, head, side) {
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
