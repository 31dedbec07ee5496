/* Copyright 2026 The implicit_relocalizer authors. SPDX-License-Identifier: Apache-2.0 */
'use strict';
// Elements, scales and axes. Texts only ever become text nodes.
const problems = [];
function report(problem) {
  problems.push(String(problem));
  document.documentElement.dataset.problems = JSON.stringify(problems);
}
window.addEventListener('error', (event) => report(event.message));
const data = JSON.parse(document.getElementById('data').textContent);
const frames = data.frames;
const SVG = document.getElementById('seed').namespaceURI;

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value !== null && value !== undefined) element.setAttribute(name, value);
  }
  for (const child of children) {
    if (child !== null && child !== undefined) element.append(child);
  }
  return element;
}
const svg = (tag, attributes, ...children) =>
  fill(document.createElementNS(SVG, tag), attributes, children);
const html = (tag, attributes, ...children) =>
  fill(document.createElement(tag), attributes, children);

function linear(low, high, from, to) {
  const scale = (value) => from + (to - from) * (value - low) / (high - low || 1);
  scale.low = low; scale.high = high;
  scale.ticks = (count) => {
    let ticks = [];
    for (let wanted = Math.max(count, 2); ticks.length < 2 && wanted < 20; wanted++) {
      const rough = (high - low) / wanted || 1;
      const unit = 10 ** Math.floor(Math.log10(rough));
      const step = unit * [1, 2, 5, 10].find((factor) => unit * factor >= rough * 0.999);
      ticks = [];
      for (let i = Math.ceil(low / step - 1e-9); i * step <= high + 1e-9 * step; i++) {
        ticks.push(Number((i * step).toPrecision(10)));
      }
    }
    return ticks;
  };
  return scale;
}

function logarithmic(low, high, from, to) {
  const inner = linear(Math.log10(low), Math.log10(high), from, to);
  const scale = (value) => inner(Math.log10(Math.min(Math.max(value, low), high)));
  scale.low = low; scale.high = high;
  scale.ticks = (count) => {
    const decades = Math.log10(high / low);
    const digits = decades * 3 <= count ? [1, 2, 5] : decades * 2 <= count ? [1, 3] : [1];
    const ticks = [];
    for (let power = Math.floor(Math.log10(low)) - 1; power <= Math.log10(high) + 1; power++) {
      for (const digit of digits) {
        const tick = Number((digit * 10 ** power).toPrecision(3));
        if (tick >= low * 0.999 && tick <= high * 1.001) ticks.push(tick);
      }
    }
    return ticks;
  };
  return scale;
}

function lengthText(metres) {
  if (metres === null) return '\u2013';
  if (metres < 0.01) return `${trim(metres * 1000)} mm`;
  return metres < 1 ? `${trim(metres * 100)} cm` : `${trim(metres)} m`;
}
const angleText = (degrees) => degrees === null ? '\u2013' : `${trim(degrees)}\u00b0`;
const percentText = (share) => `${trim(100 * share)}%`;
function trim(value) {
  return String(Number(value.toPrecision(3)));
}

// A chart with axes. x and y: {low, high, log, label, format, ticks}.
function chart(host, options) {
  const width = Math.max(260, Math.min(options.width || host.clientWidth, 1140));
  const height = options.height;
  const box = { left: 68, right: width - 20, top: 12, bottom: height - 42, ...options.box };
  const make = (axis, from, to) =>
    (axis.log ? logarithmic : linear)(axis.low, axis.high, from, to);
  const x = make(options.x, box.left, box.right);
  const y = make(options.y, box.bottom, box.top);
  const root = svg('svg', { viewBox: `0 0 ${width} ${height}`, width, height, role: 'img',
    tabindex: options.focusable ? 0 : null },
  svg('title', {}, options.title), svg('desc', {}, options.description || ''));
  const axes = svg('g', { 'aria-hidden': 'true' });
  const roomX = Math.max(2, Math.floor((box.right - box.left) / 74));
  const roomY = Math.max(2, Math.floor((box.bottom - box.top) / 30));
  for (const tick of options.x.ticks || x.ticks(roomX)) {
    axes.append(svg('line', { class: 'grid', x1: x(tick), x2: x(tick), y1: box.top,
      y2: box.bottom }), svg('text', { x: x(tick), y: box.bottom + 16, 'text-anchor': 'middle' },
    (options.x.format || trim)(tick)));
  }
  for (const tick of options.y.ticks || y.ticks(roomY)) {
    axes.append(svg('line', { class: 'grid', x1: box.left, x2: box.right, y1: y(tick),
      y2: y(tick) }), svg('text', { x: box.left - 7, y: y(tick) + 4, 'text-anchor': 'end' },
    (options.y.format || trim)(tick)));
  }
  axes.append(svg('line', { class: 'axis', x1: box.left, x2: box.right, y1: box.bottom,
    y2: box.bottom }));
  if (options.x.label) axes.append(svg('text', { x: (box.left + box.right) / 2,
    y: box.bottom + 35, 'text-anchor': 'middle' }, options.x.label));
  if (options.y.label) axes.append(svg('text', { transform:
    `translate(13 ${(box.top + box.bottom) / 2}) rotate(-90)`, 'text-anchor': 'middle' },
  options.y.label));
  root.append(axes);
  host.append(root);
  return { root, x, y, box, width, height };
}

function path(points) {
  return points.map(([x, y], i) => `${i ? 'L' : 'M'}${x.toFixed(1)} ${y.toFixed(1)}`).join('');
}

// Marks differ in shape as well as in colour.
function mark(shape, x, y, size, attributes) {
  const s = size;
  const shapes = {
    circle: () => svg('circle', { cx: x, cy: y, r: s, ...attributes }),
    diamond: () => svg('path', { d: `M${x} ${y - 1.3 * s}L${x + 1.3 * s} ${y}L${x} ${y + 1.3 * s}L${x - 1.3 * s} ${y}Z`, ...attributes }),
    triangle: () => svg('path', { d: `M${x} ${y - 1.3 * s}L${x + 1.3 * s} ${y + s}L${x - 1.3 * s} ${y + s}Z`, ...attributes }),
    square: () => svg('rect', { x: x - s, y: y - s, width: 2 * s, height: 2 * s, ...attributes }),
    cross: () => svg('path', { d: `M${x - s} ${y - s}L${x + s} ${y + s}M${x - s} ${y + s}L${x + s} ${y - s}`, fill: 'none', 'stroke-width': 1.6, ...attributes }),
  };
  return shapes[shape]();
}

function legend(items) {
  return html('ul', { class: 'legend' }, ...items.map(([draw, text]) => html('li', {},
    svg('svg', { width: 22, height: 14, 'aria-hidden': 'true' }, draw), text)));
}
const lineSample = (attributes) => svg('line', { x1: 1, x2: 21, y1: 7, y2: 7, 'stroke-width': 2,
  ...attributes });
const caption = (text) => html('p', { class: 'caption' }, text);
