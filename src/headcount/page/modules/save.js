// The current view as an SVG or PNG file.

import { svgElement } from './dom.js';
import { excerpt, percent, visible } from './words.js';

const WIDTH = 760;
const MARGIN = 28;
const LINE = 24;
const FONT = '15px sans-serif';
const INK = '#1c2024';
const MUTED = '#5b6470';
const HOT = [90, 162, 245]; // as --hot in light colours: a file has no dark mode
const SCALE = 2; // pixels of a PNG per unit of the SVG

// Return an <svg> of the panels, one under the other. A canvas measures the widths of texts.
export function drawPicture(pictures, title) {
  const measure = document.createElement('canvas').getContext('2d');
  measure.font = FONT;
  const svg = svgElement('svg', { 'font-family': 'sans-serif', 'font-size': 15, fill: INK });
  const background = svgElement('rect', { width: '100%', height: '100%', fill: '#ffffff' });
  svg.append(background);
  let y = MARGIN + 8;
  const text = (content, attributes = {}) => {
    svg.append(svgElement('text', { x: MARGIN, y, ...attributes }, content));
    y += LINE;
  };

  text(excerpt(title, 80), { 'font-weight': 'bold' });
  for (const picture of pictures) {
    y += 8;
    text(`${picture.name}: ${picture.view}`, { fill: MUTED, 'font-size': 13 });
    y = flow(svg, measure, picture.written, picture.used, picture.chosen, y);
    y += LINE;
    y = flow(svg, measure, picture.tokens, picture.heat, picture.source === null ? [] : [picture.source], y);
    const values = picture.heat ?? picture.used;
    if (values !== null) {
      y += LINE;
      const most = values.reduce((a, b) => Math.max(a, b), 0);
      text(`Attention; the darkest is ${percent(most)}.`, { fill: MUTED, 'font-size': 13 });
    }
    y += LINE / 2;
  }
  for (const [name, value] of Object.entries({ width: WIDTH, height: y, viewBox: `0 0 ${WIDTH} ${y}` })) {
    svg.setAttribute(name, value);
  }
  return svg;
}

// Draw tokens as lines of text, coloured by their values, and return the y of the line after them.
function flow(svg, measure, tokens, values, chosen, top) {
  const most = values === null ? 0 : values.reduce((a, b) => Math.max(a, b), 0);
  const blank = measure.measureText(' ').width;
  let x = MARGIN;
  let y = top;
  tokens.forEach((token, index) => {
    // Break lines where the text does; several breaks count as one.
    if (/^\s*\n/u.test(token) && x > MARGIN) {
      x = MARGIN;
      y += LINE;
    }
    if (token.includes('\n') && token.trim() === '') return;

    // Break a line that would be too wide.
    const shown = visible(token);
    const width = measure.measureText(shown).width;
    if (/^\s/u.test(token) && x > MARGIN) x += blank;
    if (x + width > WIDTH - MARGIN && x > MARGIN) {
      x = MARGIN;
      y += LINE;
    }

    // The background shows the value, a frame the selected tokens.
    const box = (colours) => svgElement('rect',
      { x: x - 1, y: y - 16, width: width + 2, height: 21, rx: 3, ...colours });
    const share = most > 0 ? values[index] / most : 0;
    if (share >= 0.02) {
      const colour = HOT.map((channel) => Math.round(255 + (channel - 255) * share ** 0.7));
      svg.append(box({ fill: `rgb(${colour})` }));
    }
    if (chosen.includes(index)) {
      svg.append(box({ fill: 'none', stroke: INK }));
    }
    svg.append(svgElement('text', { x, y }, shown));
    x += width;
  });
  return y + LINE;
}

export function saveSvg(svg, name) {
  download(`data:image/svg+xml;charset=utf-8,${encodeURIComponent(serialize(svg))}`, `${name}.svg`);
}

export async function savePng(svg, name) {
  const image = new Image();
  image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(serialize(svg))}`;
  await image.decode();
  const canvas = document.createElement('canvas');
  canvas.width = SCALE * Number(svg.getAttribute('width'));
  canvas.height = SCALE * Number(svg.getAttribute('height'));
  canvas.getContext('2d').drawImage(image, 0, 0, canvas.width, canvas.height);
  download(canvas.toDataURL('image/png'), `${name}.png`);
}

function serialize(svg) {
  return new XMLSerializer().serializeToString(svg);
}

function download(address, name) {
  const link = document.createElement('a');
  link.href = address;
  link.download = name;
  link.click();
}
