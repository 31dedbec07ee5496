// The place from above: where the camera was, where it was thought to be.
register('above', (host) => {
  const trueSpots = frames.true.filter(Boolean);
  const spots = trueSpots.length ? trueSpots : frames.estimate.filter(Boolean);
  if (!spots.length) {
    host.append(html('p', { class: 'absent' }, 'No frame has a pose.'));
    return null;
  }
  const range = (some, axis) => {
    const values = some.map((spot) => spot[axis]);
    return values.reduce(([low, high], value) => [Math.min(low, value), Math.max(high, value)], [Infinity, -Infinity]);
  };
  // Wrong estimates not far away are shown too, but a wild one must not make the place a dot.
  const near = [0, 1].map((axis) => range(spots, axis));
  const reach = 0.4 * Math.max(near[0][1] - near[0][0], near[1][1] - near[1][0], 1);
  const wrong = frames.estimate.filter((spot) => spot && [0, 1].every((axis) =>
    spot[axis] > near[axis][0] - reach && spot[axis] < near[axis][1] + reach));
  const [x0, x1] = range([...spots, ...wrong], 0), [y0, y1] = range([...spots, ...wrong], 1);
  const pad = 0.07 * Math.max(x1 - x0, y1 - y0, 0.5);
  const width = Math.max(260, Math.min(host.clientWidth, 1140));
  const inner = [width - 88, 0];
  const wanted = inner[0] * (y1 - y0 + 2 * pad) / (x1 - x0 + 2 * pad);
  inner[1] = Math.min(Math.max(wanted, 240), Math.max(360, Math.min(560, 0.9 * inner[0])));
  // One metre is as long to the right as it is ahead.
  const metre = Math.min(inner[0] / (x1 - x0 + 2 * pad), inner[1] / (y1 - y0 + 2 * pad));
  inner[0] = Math.min(inner[0], Math.max(300, metre * (x1 - x0 + 2 * pad)));
  const half = [inner[0] / metre / 2, inner[1] / metre / 2];
  const middle = [(x0 + x1) / 2, (y0 + y1) / 2];
  // Ticks show the map's own coordinates, also where an axis runs against the picture.
  const sign = data.axes.map((name) => name.startsWith('-') ? -1 : 1);
  const axisOf = (i) => ({ low: middle[i] - half[i], high: middle[i] + half[i],
    label: `${data.axes[i].replace('-', '')} [m]`, format: (value) => trim(sign[i] * value + 0) });
  const beside = html('div', { class: 'beside' }), drawing = html('div', {});
  beside.append(drawing);
  host.append(beside);
  const { root, x, y, box } = chart(drawing, { width: inner[0] + 88, height: inner[1] + 54, focusable: true,
    x: axisOf(0), y: axisOf(1), title: 'The camera from above',
    description: 'Reference positions, estimated positions in colours and shapes by their error, '
      + 'and crosses where an image got no answer. Arrow keys go from image to image.' });
  const clip = svg('clipPath', { id: 'above-clip' }, svg('rect', { x: box.left, y: box.top,
    width: box.right - box.left, height: box.bottom - box.top }));
  const layer = svg('g', { 'clip-path': 'url(#above-clip)' });
  root.append(clip, layer);
  const at = (spot) => [x(spot[0]), y(spot[1])];
  for (const place of placesOf('train')) {
    if (frames.true[place]) layer.append(mark('circle', ...at(frames.true[place]), 2.2,
      { fill: 'var(--training)' }));
  }
  if (data.kind === 'run') {
    const line = judged.filter((place) => frames.true[place]).map((place) => at(frames.true[place]));
    layer.append(svg('path', { d: path(line), fill: 'none', stroke: 'var(--truth)',
      'stroke-width': 1.6 }));
  }
  let outside = 0;
  const order = [...judged].sort((a, b) => (errorClass(a) ?? -1) - (errorClass(b) ?? -1));
  for (const place of order) {
    const truth = frames.true[place], estimate = frames.estimate[place];
    const kind = estimate ? errorClass(place) : 'none';
    const refused = frames.accepted[place] === false;
    if (estimate && truth) layer.append(svg('path', { d: path([at(truth), at(estimate)]),
      stroke: classColour(kind), 'stroke-width': 1.1, opacity: 0.75 }));
    if (truth && data.kind === 'scene') layer.append(mark('circle', ...at(truth), 1.3,
      { fill: 'var(--truth)' }));
    if (estimate) {
      const [ex, ey] = at(estimate);
      if (ex < box.left || ex > box.right || ey < box.top || ey > box.bottom) outside++;
      const colour = kind === null ? 'var(--truth)' : classColour(kind);
      layer.append(mark(errorShapes[kind ?? 0], ex, ey, errorSizes[kind ?? 0], {
        fill: refused || kind === null ? 'var(--sheet)' : colour, stroke: colour,
        'stroke-width': 1.4 }));
    } else if (truth) layer.append(mark('cross', ...at(truth), 4, { stroke: 'var(--ink)' }));
  }
  const ring = svg('g', {});
  root.append(ring);
  const spotOf = (place) => frames.estimate[place] || frames.true[place];
  followPointer(root, judged, (place) => spotOf(place) ? at(spotOf(place)) : null);
  const items = errorClasses.map((text, i) => [mark(errorShapes[i], 11, 7, errorSizes[i],
    { fill: classColour(i), stroke: classColour(i) }), `${text}: ${data.counts.classes[i]}`]);
  if (data.counts.silent) items.push([mark('cross', 11, 7, 4, { stroke: 'var(--ink)' }),
    `no answer: ${data.counts.silent}`]);
  if (data.counts.without_reference) items.push([mark('circle', 11, 7, 3, { fill: 'none', stroke: 'var(--truth)' }),
    `no reference: ${data.counts.without_reference}`]);
  if (data.counts.refused) items.push([mark('circle', 11, 7, 3.4, { fill: 'var(--sheet)', stroke: 'var(--ink)', 'stroke-width': 1.4 }),
    `hollow: would be refused: ${data.counts.refused}`]);
  if (data.kind === 'run') items.push([lineSample({ stroke: 'var(--truth)' }), 'reference']);
  if (placesOf('train').length) items.push([mark('circle', 11, 7, 2.4, { fill: 'var(--training)' }),
    'training image']);
  beside.append(html('div', {}, legend(items), caption(
    'A line leads from where the camera was to the estimate. Point at a mark, or use the arrow '
    + 'keys, to see its image.'
    + (outside ? ` ${outside} estimates lie outside of the picture.` : ''))));
  return (place) => {
    const spot = spotOf(place);
    ring.replaceChildren(...(spot ? [svg('circle', { cx: at(spot)[0], cy: at(spot)[1], r: 9,
      fill: 'none', stroke: 'var(--focus)', 'stroke-width': 2.5 })] : []));
  };
});
