// Errors in the order of the images, with what the covariance said and the node's states.
register('time', (host) => {
  const timed = judged.every((place) => frames.time[place] !== null) && data.kind === 'run';
  const at = (place, order) => timed ? frames.time[place] : order;
  const values = judged.map(at);
  if (!values.length) {
    host.append(html('p', { class: 'absent' }, 'There are no such images.'));
    return null;
  }
  const low = Math.min(...values, ...(timed ? data.states.map((s) => s[0]) : []), 0);
  const high = Math.max(...values, ...(timed ? data.states.map((s) => s[1]) : []), low + 1e-3);
  const gaps = values.slice(1).map((value, i) => value - values[i]).sort((a, b) => a - b);
  const usual = gaps.length ? gaps[gaps.length >> 1] : 1;
  const halfSpan = (i) => {
    const before = i ? (values[i] - values[i - 1]) / 2 : usual / 2;
    const after = i + 1 < values.length ? (values[i + 1] - values[i]) / 2 : usual / 2;
    return [Math.min(before, usual), Math.min(after, usual)];
  };
  const marksOf = [];
  let lastChart = null;
  const panels = [
    ['position', 'sigma', 'position error', lengthText, data.wrong[0], 'limitM'],
    ['rotation', 'turn_sigma', 'rotation error', angleText, data.wrong[1], 'limitDeg']];
  const hasBand = judged.some((place) => frames.sigma[place] !== null);
  for (const [key, sigmaKey, name, format, wrong] of panels) {
    const errors = judged.map((place) => frames[key][place]).filter((v) => v !== null);
    if (!errors.length) {
      host.append(html('p', { class: 'absent' }, `No ${name} is known.`));
      continue;
    }
    const sigmas = judged.map((place) => frames[sigmaKey][place]).filter((v) => v !== null)
      .sort((a, b) => a - b);
    const bottom = Math.max(quantile(errors, 0.02) / 2, 1e-4);
    const top = Math.max(Math.max(...errors) * 1.5, 4 * quantile(sigmas, 0.9) || 0, bottom * 30);
    const { root, x, y, box } = chart(host, { height: 216, focusable: true,
      box: { bottom: 192 },
      x: { low: low - usual / 2, high: high + usual / 2 },
      y: { low: bottom, high: top, log: true, label: name, format },
      title: `${name} of each image`,
      description: `The ${name} of each answer on a logarithmic axis, over bands of 1, 2 and 3 `
        + 'sigma of its covariance. Arrow keys go from image to image.' });
    data.sigmas.slice().reverse().forEach(([sigma, factor]) => {
      let d = '';
      judged.forEach((place, i) => {
        const reach = frames[sigmaKey][place];
        if (reach === null) return;
        const [before, after] = halfSpan(i);
        d += `M${x(values[i] - before).toFixed(1)} ${box.bottom}V${y(reach * factor).toFixed(1)}H${x(values[i] + after).toFixed(1)}V${box.bottom}Z`;
      });
      if (d) root.append(svg('path', { d, fill: 'var(--band)', opacity: 0.13 + 0.04 * (3 - sigma),
        'aria-hidden': 'true' }));
    });
    if (wrong < top && wrong > bottom) {
      root.append(svg('line', { x1: box.left, x2: box.right, y1: y(wrong), y2: y(wrong),
        stroke: 'var(--wrong)', 'stroke-dasharray': '6 4' }),
      svg('text', { x: box.left + 5, y: y(wrong) - 5, class: 'plate',
        style: 'fill: var(--wrong)' }, `${data.kind === 'run' ? 'false accept' : 'wrong'} beyond ${format(wrong)}`));
    }
    const lines = [];
    let line = [];
    judged.forEach((place, i) => {
      const error = frames[key][place];
      if (error === null) { if (line.length) lines.push(line); line = []; return; }
      line.push([x(values[i]), y(error)]);
    });
    if (line.length) lines.push(line);
    root.append(svg('path', { d: lines.map(path).join(''), fill: 'none', stroke: 'var(--ink)',
      'stroke-width': 1, opacity: 0.35 }));
    judged.forEach((place, i) => {
      const error = frames[key][place];
      if (error === null) return;
      const kind = errorClass(place);
      root.append(mark(errorShapes[kind], x(values[i]), y(error), errorSizes[kind] * 0.75,
        { fill: frames.accepted[place] === false ? 'var(--sheet)' : classColour(kind),
          stroke: classColour(kind) }));
    });
    const cursor = svg('g', {});
    root.append(cursor);
    followPointer(root, judged, (place) => [x(values[judged.indexOf(place)]), null]);
    marksOf.push((place) => {
      const i = judged.indexOf(place);
      cursor.replaceChildren(...(i < 0 ? [] : [svg('line', { x1: x(values[i]), x2: x(values[i]),
        y1: box.top, y2: box.bottom, stroke: 'var(--focus)', 'stroke-width': 2 })]));
    });
    lastChart = { x, box };
  }
  drawStrip(host, { low: low - usual / 2, high: high + usual / 2 }, values, timed, halfSpan, marksOf);
  const items = errorClasses.map((text, i) => [mark(errorShapes[i], 11, 7, errorSizes[i],
    { fill: classColour(i), stroke: classColour(i) }), text]);
  if (judged.some((place) => frames.accepted[place] === false)) items.push([mark('circle', 11, 7,
    3.4, { fill: 'var(--sheet)', stroke: 'var(--ink)', 'stroke-width': 1.4 }), 'hollow: would be refused']);
  if (hasBand) items.push(...data.sigmas.map(([sigma]) => [svg('rect', { x: 1, y: 1, width: 20,
    height: 12, fill: 'var(--band)', opacity: 0.2 + 0.17 * (3 - sigma) }), `${sigma} sigma`]));
  host.append(legend(items), caption(hasBand
    ? 'The bands show how far the 1, 2 and 3 sigma ellipsoids of each answer\u2019s covariance '
      + 'reach in the direction of its error: a mark above the band is an error larger than the '
      + 'covariance said.'
    : 'No usable covariance was given, so there is no band.'),
  ...(data.frame_count > frames.name.length ? [caption(`Of ${data.frame_count} images ${frames.name.length} `
    + 'are drawn: of every stretch the worst answer, the median one, and one image without an answer.')] : []));
  return (place) => marksOf.forEach((draw) => draw(place));
});

function quantile(values, share) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted.length ? sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] : NaN;
}

// Under the errors: which images got no answer, and what the node said of itself.
function drawStrip(host, range, values, timed, halfSpan, marksOf) {
  const states = timed ? data.states : [];
  const height = states.length ? 126 : 84;
  const { root, x, box } = chart(host, { height, box: { top: 6, bottom: height - 42 },
    x: { ...range, label: timed ? 'time since the first image [s]'
      : `${data.groups[data.judged]} image, in order` },
    y: { low: 0, high: 1, ticks: [] }, title: 'Images without an answer and states of the node',
    description: states.map(([from, to, state, reason]) =>
      `${state} from ${from} to ${to} s: ${reason}`).join('; ') });
  root.append(svg('text', { x: box.left - 7, y: box.top + 16, 'text-anchor': 'end' }, 'no answer'));
  let missing = 0;
  judged.forEach((place, i) => {
    if (frames.estimate[place] !== null) return;
    missing++;
    const [before, after] = halfSpan(i);
    root.append(svg('rect', { x: x(values[i] - before), y: box.top + 4,
      width: Math.max(x(values[i] + after) - x(values[i] - before), 1.5), height: 18,
      fill: 'var(--ink)', opacity: 0.75 }));
  });
  if (!missing) root.append(svg('text', { x: box.left + 4, y: box.top + 17 },
    'every image got an answer'));
  if (states.length) {
    root.append(svg('defs', {}, svg('pattern', { id: 'hatch', width: 7, height: 7,
      patternUnits: 'userSpaceOnUse', patternTransform: 'rotate(45)' },
    svg('rect', { width: 7, height: 7, fill: 'var(--bad-ground)' }),
    svg('rect', { width: 2.5, height: 7, fill: 'var(--bad)' })),
    svg('pattern', { id: 'dots', width: 7, height: 7, patternUnits: 'userSpaceOnUse' },
      svg('rect', { width: 7, height: 7, fill: 'var(--caution-ground)' }),
      svg('circle', { cx: 3, cy: 3, r: 1.5, fill: 'var(--caution)' }))));
    root.append(svg('text', { x: box.left - 7, y: box.top + 51, 'text-anchor': 'end' }, 'state'));
    const fills = { LOCALIZED: 'var(--good-ground)', LOST: 'url(#hatch)' };
    const lines = { LOCALIZED: 'var(--good)', LOST: 'var(--bad)' };
    for (const [from, to, state, reason, refusal] of states) {
      const left = x(from), wide = Math.max(x(to) - x(from), 2);
      root.append(svg('rect', { x: left, y: box.top + 34, width: wide, height: 26,
        fill: fills[state] || 'url(#dots)', stroke: lines[state] || 'var(--caution)' },
      svg('title', {}, `${state} from ${from} to ${to} s: ${reason}${refusal ? `; ${refusal}` : ''}`)));
      const room = Math.floor(wide / 7.6) - 1;
      const text = [`${state}: ${reason}`, state].find((t) => t.length <= room);
      if (text) root.append(svg('text', { x: left + wide / 2, y: box.top + 51,
        'text-anchor': 'middle', class: 'strong plate' }, text));
    }
  }
  const cursor = svg('g', {});
  root.append(cursor);
  followPointer(root, judged, (place) => [x(values[judged.indexOf(place)]), null]);
  marksOf.push((place) => {
    const i = judged.indexOf(place);
    cursor.replaceChildren(...(i < 0 ? [] : [svg('line', { x1: x(values[i]), x2: x(values[i]),
      y1: box.top, y2: box.bottom, stroke: 'var(--focus)', 'stroke-width': 2 })]));
  });
}
