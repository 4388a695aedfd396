// The figure of a study: the mean of each setting with its interval and seeds, against the value that
// is varied. Each setting can be hovered, focused and selected.

import { element, readingOrder, roving, svgElement } from './dom.js';

const HEIGHT = 330;
const TOP = 26; // above the plot, for the symbols of the verdicts
const BOTTOM = 44; // below it, for the texts of the axis
const LEFT = 44;
const LETTER = 6.6; // pixels, about the width of one

// Return an <svg> of one metric.
//
// `metric` has the range and the baselines, `study.axis` the positions and lines. `onHover(setting)`
// is called with the index of the setting under the pointer or the focus, and with null when there is
// none any more; `onSelect(setting)` when one is clicked.
export function drawChart({ study, metric, width, selected, onHover, onSelect }) {
  const { axis, settings } = study;

  // Scales. The names of the baselines are to the right of the plot.
  const names = metric.baselines.map((baseline) => baseline.name.length);
  const right = Math.min(120, width / 4, 14 + LETTER * Math.max(0, ...names));
  const positions = axis.ticks.map(([position]) => position);
  const first = Math.min(...positions);
  const last = Math.max(...positions);
  const margin = 0.12 * (last - first) || 1;
  const x = scale(first - margin, last + margin, LEFT, width - right);
  const y = scale(metric.low, metric.high, HEIGHT - BOTTOM, TOP);

  const svg = svgElement('svg', {
    class: 'chart', width, height: HEIGHT, viewBox: `0 0 ${width} ${HEIGHT}`, role: 'group',
    'aria-label': `${metric.title} of each setting`,
  });

  // Later elements are drawn above earlier ones. The reference cell may be on several lines; only its
  // first mark can be focused.
  drawGrid();
  drawBaselines();
  const spacing = Math.min(90, closest(positions.map(x)) / axis.series.length);
  const drawnSettings = new Set();
  const marks = [];
  axis.series.forEach((series, number) => drawSeries(series, number));
  roving(svg, marks, readingOrder(marks));
  return svg;

  function drawGrid() {
    for (const value of niceTicks(metric.low, metric.high)) {
      const height = y(value);
      svg.append(
        svgElement('line', { class: 'grid', x1: LEFT, x2: width - right, y1: height, y2: height }),
        svgElement('text', { class: 'tick', x: LEFT - 8, y: height + 4, 'text-anchor': 'end' }, String(value)),
      );
    }

    // Long texts below the axis are rotated.
    const room = closest(positions.map(x));
    const isCrowded = axis.ticks.some(([, text]) => LETTER * text.length > room);
    for (const [position, text] of axis.ticks) {
      const place = `translate(${x(position)} ${HEIGHT - BOTTOM + 18})`;
      svg.append(svgElement('text', {
        class: 'tick', transform: isCrowded ? `${place} rotate(-20)` : place,
        'text-anchor': isCrowded ? 'end' : 'middle',
      }, isCrowded ? shortened(text) : text));
    }

    const middle = (LEFT + width - right) / 2;
    svg.append(svgElement('text', { class: 'tick', x: middle, y: HEIGHT - 6, 'text-anchor': 'middle' }, axis.title));
  }

  function drawBaselines() {
    for (const { name, mean, label } of metric.baselines) {
      const end = width - right;
      svg.append(
        svgElement('line', { class: 'baseline', x1: LEFT, x2: end, y1: y(mean), y2: y(mean) }),
        svgElement('path', { class: 'leader', d: `M${end} ${y(mean)}L${end + 8} ${y(label)}` }),
        svgElement('text', { class: 'tick', x: end + 11, y: y(label) + 4 }, name),
      );
    }
  }

  function drawSeries(series, number) {
    const shift = spacing * (number - (axis.series.length - 1) / 2) / 2;
    const style = study.styles[number];
    const points = series.points.map(([setting, position]) => ({ setting, at: x(position) + shift }));

    // Lines are shifted sideways, so that the intervals of several lines do not cover each other.
    if (axis.joined) {
      const path = points.map(({ setting, at }, index) => `${index ? 'L' : 'M'}${at} ${y(meanOf(setting))}`);
      const line = svgElement('path', { class: 'joined', d: path.join('') });
      if (axis.series.length > 1) line.style.setProperty('--series', style.color);
      svg.append(line);
    }
    for (const point of points) svg.append(mark(point, style.marker));
  }

  function meanOf(setting) {
    return settings[setting].estimates[metric.key].mean;
  }

  // Return the mark of one setting: the area that reacts to the pointer, the interval, the mean, the
  // seeds and the symbol of the verdict.
  function mark({ setting, at }, marker) {
    const about = settings[setting];
    const { mean, low, high } = about.estimates[metric.key];
    const comparison = about.comparisons[metric.key];
    const isReachable = !drawnSettings.has(setting);
    drawnSettings.add(setting);
    const group = svgElement('g', {
      class: 'mark', 'data-setting': setting,
      role: isReachable ? 'button' : null,
      'aria-pressed': isReachable ? String(setting === selected) : null,
      'aria-hidden': isReachable ? null : 'true',
      'aria-label': isReachable ? spoken(about, metric) : null,
    });
    if (comparison) group.style.setProperty('--verdict', comparison.color);

    group.append(
      svgElement('rect', {
        class: 'area', x: at - spacing / 2, y: 4, width: spacing, height: HEIGHT - BOTTOM - 4, rx: 6,
      }),
      svgElement('path', {
        class: 'interval', d: `M${at} ${y(low)}V${y(high)}M${at - 4} ${y(low)}h8M${at - 4} ${y(high)}h8`,
      }),
      svgElement('path', { class: 'mean', d: shape(marker, at, y(mean)) }),
    );
    for (const run of about.runs) {
      const score = run.scores[metric.key];
      if (score !== null) group.append(svgElement('circle', { class: 'seed', cx: at + 11, cy: y(score), r: 2.5 }));
    }
    if (comparison) {
      group.append(svgElement('text', { class: 'symbol', x: at, y: 20, 'text-anchor': 'middle' }, comparison.symbol));
    }

    group.addEventListener('pointerenter', () => onHover(setting));
    group.addEventListener('pointerleave', () => onHover(null));
    group.addEventListener('focus', () => onHover(setting));
    group.addEventListener('blur', () => onHover(null));
    group.addEventListener('click', () => onSelect(setting));
    group.addEventListener('keydown', (event) => {
      if (event.key !== 'Enter' && event.key !== ' ') return;
      event.preventDefault();
      onSelect(setting);
    });
    if (isReachable) marks.push(group);
    return group;
  }
}

// Return the name of a setting and its result as a sentence for screen readers.
function spoken(about, metric) {
  const { mean, low, high } = about.estimates[metric.key];
  const comparison = about.comparisons[metric.key];
  const verdict = comparison ? `, ${comparison.verdict}` : about.isReference ? ', the reference' : '';
  return `${about.name}: ${metric.title} ${mean.toFixed(2)}, from ${low.toFixed(2)} to ${high.toFixed(2)}${verdict}`;
}

// Return the legend of the figure as a list.
export function chartLegend(study) {
  const items = [];
  if (study.axis.series.length > 1) {
    study.axis.series.forEach((series, number) => {
      const key = svgElement('svg', { class: 'key-mark', width: 14, height: 14, 'aria-hidden': 'true' },
        svgElement('path', { d: shape(study.styles[number].marker, 7, 7) }));
      key.style.setProperty('--series', study.styles[number].color);
      items.push(element('li', {}, key, series.name));
    });
  }
  for (const { name, symbol, color } of study.verdicts) {
    const key = element('span', { class: 'verdict', 'aria-hidden': 'true' }, symbol);
    key.style.setProperty('--verdict', color);
    items.push(element('li', {}, key, ` ${name}`));
  }
  items.push(element('li', {}, 'bar: 95 % interval'), element('li', {}, 'small dots: seeds'));
  return element('ul', { class: 'legend' }, ...items);
}

function scale(from, to, start, end) {
  return (value) => start + (end - start) * (value - from) / (to - from || 1);
}

// Return the smallest distance between neighbouring values, at most 90 pixels.
function closest(values) {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted.slice(1).reduce((least, value, index) => Math.min(least, value - sorted[index]), 90);
}

// Return about five round numbers within a range.
function niceTicks(low, high) {
  const rough = (high - low) / 5;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].find((factor) => factor * power >= rough) * power;
  const ticks = [];
  for (let number = Math.ceil(low / step); number * step <= high; number += 1) {
    ticks.push(Number((number * step).toPrecision(6)));
  }
  return ticks;
}

// Return the path of a marker by its name in matplotlib, so that the page and the figure for papers
// have the same marks.
function shape(marker, x, y) {
  if (marker === 's') return `M${x - 4} ${y - 4}h8v8h-8z`;
  if (marker === 'D') return `M${x} ${y - 5.5}l5.5 5.5l-5.5 5.5l-5.5 -5.5z`;
  if (marker === 'P') return `M${x - 2} ${y - 5}h4v3h3v4h-3v3h-4v-3h-3v-4h3z`;
  return `M${x - 4.5} ${y}a4.5 4.5 0 1 0 9 0a4.5 4.5 0 1 0 -9 0z`;
}

function shortened(text) {
  return text.length > 24 ? `${text.slice(0, 23)}…` : text;
}
