// Points over the pictures of the worst frames, and the same points from above.
const agreement = [[2, 'var(--e1)', 'agrees with the pose to 2 px'], [5, 'var(--e2)', 'to 5 px'],
  [Infinity, 'var(--e4)', 'contradicts it']];
const agreementOf = (residual) => agreement.findIndex(([limit]) => residual !== null && residual < limit);
let colouring = 'agreement';

function rotate(q, v) { // quaternion x y z w
  const [x, y, z, w] = q;
  const [a, b, c] = [y * v[2] - z * v[1] + w * v[0], z * v[0] - x * v[2] + w * v[1], x * v[1] - y * v[0] + w * v[2]];
  return [v[0] + 2 * (y * c - z * b), v[1] + 2 * (z * a - x * c), v[2] + 2 * (x * b - y * a)];
}

function depthsOf(picture) {
  const pose = frames.estimate[picture.frame] || frames.true[picture.frame];
  if (!pose) return null;
  const forward = rotate(pose.slice(3), [0, 0, 1]);
  return picture.points.place.map((p) => forward[0] * (p[0] - pose[0]) + forward[1] * (p[1] - pose[1]) + forward[2] * (p[2] - pose[2]));
}

function overlay(picture) {
  const [width, height] = picture.size, { points } = picture;
  const unit = width / 400;
  const root = svg('svg', { viewBox: `0 0 ${width} ${height}`, 'aria-hidden': 'true' });
  const depths = colouring === 'depth' ? depthsOf(picture) : null;
  const ordered = depths ? [...depths].sort((a, b) => a - b) : [];
  const near = quantile(ordered, 0.05), far = quantile(ordered, 0.95);
  points.pixels.forEach(([x, y], i) => {
    const kind = agreementOf(points.residual[i]);
    const to = points.projected[i];
    const colour = depths ? `hsl(${20 + 220 * Math.min(Math.max((depths[i] - near) / (far - near || 1), 0), 1)} 85% 58%)`
      : agreement[Math.max(kind, 0)][1];
    if (!depths && to[0] !== null && kind > 0) {
      const length = Math.hypot(to[0] - x, to[1] - y), cut = Math.min(1, 40 * unit / length);
      root.append(svg('line', { x1: x, y1: y, x2: x + cut * (to[0] - x), y2: y + cut * (to[1] - y),
        stroke: colour, 'stroke-width': 0.7 * unit, opacity: 0.45 }));
    }
    const size = unit * (1.3 + 1.9 * Math.sqrt(points.weight[i]));
    root.append(mark(!depths && kind === 2 ? 'cross' : 'circle', x, y, size, !depths && kind === 2
      ? { stroke: colour, 'stroke-width': 1.4 * unit }
      : { fill: colour, stroke: '#000', 'stroke-width': 0.5 * unit }));
  });
  return root;
}

function fromAbove(picture) {
  const { points } = picture, size = 200;
  const cameras = [[frames.true[picture.frame], 'var(--truth)', 'true'],
    [frames.estimate[picture.frame], 'var(--e3)', 'estimated']].filter(([pose]) => pose);
  const trusted = points.place.filter((_, i) => agreementOf(points.residual[i]) === 0);
  const seen = trusted.length > 10 ? trusted : points.place;
  const xs = [...seen.map((p) => p[0])].sort((a, b) => a - b), ys = [...seen.map((p) => p[1])].sort((a, b) => a - b);
  const ends = (values, i) => [Math.min(quantile(values, 0.03), ...cameras.map(([c]) => c[i])),
    Math.max(quantile(values, 0.97), ...cameras.map(([c]) => c[i]))];
  const [x0, x1] = ends(xs, 0), [y0, y1] = ends(ys, 1);
  const metre = (size - 30) / Math.max(x1 - x0, y1 - y0, 0.5);
  const at = (p) => [size / 2 + metre * (p[0] - (x0 + x1) / 2), size / 2 - metre * (p[1] - (y0 + y1) / 2)];
  const root = svg('svg', { viewBox: `0 0 ${size} ${size}`, class: 'cloud', role: 'img' },
    svg('title', {}, 'The points from above, with the true and the estimated camera'));
  points.place.forEach((p, i) => {
    const [r, g, b] = points.colour[i];
    root.append(svg('circle', { cx: at(p)[0].toFixed(1), cy: at(p)[1].toFixed(1), r: 1 + 1.4 * Math.sqrt(points.weight[i]),
      fill: `rgb(${r} ${g} ${b})`, stroke: 'var(--soft)', 'stroke-width': 0.25 }));
  });
  for (const [pose, colour, name] of cameras) {
    const length = 18 / metre;
    const corner = (side) => at(rotate(pose.slice(3), [side * 0.55 * length, 0, length]).map((v, i) => v + pose[i]));
    root.append(svg('path', { d: `${path([at(pose), corner(-1), corner(1)])}Z`, fill: 'none', stroke: colour,
      'stroke-width': 2, 'stroke-dasharray': name === 'true' ? '4 2' : null }));
  }
  const bar = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20].find((m) => m * metre > 28) || 50;
  root.append(svg('path', { d: `M8 ${size - 8}h${bar * metre}`, stroke: 'var(--soft)', 'stroke-width': 2 }),
    svg('text', { x: 8, y: size - 13, style: 'font-size: 10px; fill: var(--soft)' }, lengthText(bar)));
  return root;
}

function drawPictures() {
  for (const picture of data.pictures) {
    const figure = document.querySelector(`figure[data-frame="${picture.frame}"]`);
    if (!figure || !picture.points) continue;
    const photo = figure.querySelector('.photo'), views = figure.querySelector('.views');
    photo.querySelectorAll('svg').forEach((old) => old.remove());
    if (colouring !== 'none') photo.append(overlay(picture));
    if (!views.querySelector('.cloud')) views.append(fromAbove(picture));
  }
}

register('worst-legend', (host) => {
  drawPictures();
  if (!data.pictures.some((picture) => picture.points)) {
    host.append(caption('The pictures as the camera took them; the model\u2019s points are not known.'));
    return null;
  }
  const choices = [['agreement', 'agreement with the pose'], ['depth', 'depth'], ['none', 'nothing, the image alone']];
  host.append(html('div', { class: 'tools' }, html('fieldset', {}, html('legend', {}, 'Points coloured by'),
    ...choices.map(([value, text]) => {
      const input = html('input', { type: 'radio', name: 'colouring', value });
      input.checked = value === colouring;
      input.addEventListener('change', () => { colouring = value; drawPictures(); });
      return html('label', {}, input, ` ${text}`);
    }))),
  legend([...agreement.map(([, colour, text], i) => [i === 2 ? mark('cross', 11, 7, 3.5, { stroke: colour })
    : mark('circle', 11, 7, 3.5, { fill: colour, stroke: '#000', 'stroke-width': 0.5 }), text]),
  [lineSample({ stroke: 'var(--truth)', 'stroke-dasharray': '4 2' }), 'true camera'],
  [lineSample({ stroke: 'var(--e3)' }), 'estimated camera']]),
  caption('Larger points count more. Lines lead to where the estimated pose would see the model\u2019s point. '
    + 'Beside each picture: the same points in the map, from above, in the colours of the image. '
    + 'Depth: warm is near, blue is far.'));
  return null;
});
