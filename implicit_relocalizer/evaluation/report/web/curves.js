// Error curves, coverage, reliability, acceptance and comparisons.
const groupStyle = { train: { stroke: 'var(--soft)', 'stroke-dasharray': '6 4' },
  test: { stroke: 'var(--accent)' }, run: { stroke: 'var(--accent)' } };

// Both panels are there before one is drawn, so that each knows its width.
function panels(host, ...titles) {
  const made = titles.map((title) => html('div', {}, html('h3', {}, title)));
  host.append(html('div', { class: 'pair' }, ...made));
  return made;
}
const textLine = (root, x, y, text, anchor = 'start', style = null) => root.append(
  svg('text', { x, y, 'text-anchor': anchor, style }, text));

register('curves', (host) => {
  const places = panels(host, 'Position error', 'Rotation error');
  for (const [key, name, format, where] of [['position', 'position error', lengthText, places[0]],
    ['rotation', 'rotation error', angleText, places[1]]]) {
    const all = Object.values(data.curves).flatMap((curve) => curve[key].map(([error]) => error));
    if (!all.length) { where.append(html('p', { class: 'absent' }, 'Nothing is known.')); continue; }
    const low = Math.max(quantile(all, 0.02) / 1.5, 1e-4), high = Math.max(Math.max(...all) * 1.2, low * 30);
    const { root, x, y, box } = chart(where, { height: 270, x: { low, high, log: true, label:
      `${name}, logarithmic`, format }, y: { low: 0, high: 1, label: 'share of images asked',
      format: percentText }, title: `Share of the images over the ${name}`, description:
      Object.entries(data.curves).map(([group, curve]) => `${data.groups[group]}: `
        + [0.05, 0.25].map((limit) => `${percentText(shareBelow(curve[key], key === 'position' ? limit : 20 * limit))} within ${format(key === 'position' ? limit : 20 * limit)}`).join(', ')).join('; ') });
    for (const [group, curve] of Object.entries(data.curves)) {
      if (!curve[key].length) continue;
      const points = curve[key].map(([error, share]) => [x(error), y(share)]);
      points.unshift([points[0][0], y(0)]);
      points.push([box.right, points[points.length - 1][1]]);
      root.append(svg('path', { d: path(points), fill: 'none', 'stroke-width': 2, ...groupStyle[group] }));
    }
  }
  const items = Object.entries(data.curves).map(([group, curve]) =>
    [lineSample(groupStyle[group]), `${data.groups[group]} (${curve.asked} images)`]);
  host.append(legend(items), caption('A curve that ends below 100 % had images without an answer.'));
});

function shareBelow(curve, limit) {
  let share = 0;
  for (const [error, part] of curve) if (error <= limit) share = part;
  return share;
}

register('covariance', (host) => {
  if (!data.covariance) return;
  const names = ['position', 'orientation'];
  const places = panels(host, ...names.map((name) => `Normalised errors of the ${name}`));
  for (const name of names) {
    const part = data.covariance[name], where = places[names.indexOf(name)];
    if (!part.compared) { where.append(html('p', { class: 'absent' }, 'No usable covariance.')); continue; }
    const { edges, counts, expected_shares: expected, beyond } = part.histogram;
    const shares = counts.map((count) => count / part.compared);
    const top = 1.15 * Math.max(...shares, ...expected, beyond / part.compared);
    const last = edges[edges.length - 1];
    const { root, x, y, box } = chart(where, { height: 250, x: { low: 0, high: last + 0.5, label:
      'normalised error (1 sigma reaches to 1.88)' }, y: { low: 0, high: top, label:
      'share of answers', format: percentText }, title: `Histogram of normalised ${name} errors`,
    description: `${percentText(part.within['1_sigma'])} within 1 sigma, ${percentText(part.within['2_sigma'])} within 2 sigma, ${beyond} beyond ${last}` });
    const bar = (from, to, share) => root.append(svg('rect', { x: x(from) + 0.5, y: y(share),
      width: Math.max(x(to) - x(from) - 1, 1), height: box.bottom - y(share), fill: 'var(--band)',
      opacity: 0.45 }));
    shares.forEach((share, i) => bar(edges[i], edges[i + 1], share));
    if (beyond) {
      bar(last + 0.05, last + 0.45, beyond / part.compared);
      textLine(root, box.right, y(beyond / part.compared) - 5, `${beyond} beyond`, 'end');
    }
    root.append(svg('path', { fill: 'none', stroke: 'var(--e3)', 'stroke-width': 2.2,
      d: path(expected.map((share, i) => [x((edges[i] + edges[i + 1]) / 2), y(share)])) }));
    for (const [sigma, factor] of data.sigmas) {
      const limit = 1.8779 * factor;
      root.append(svg('line', { x1: x(limit), x2: x(limit), y1: box.top, y2: box.bottom,
        stroke: 'var(--soft)', 'stroke-dasharray': '2 3' }));
      textLine(root, x(limit) + 3, box.top + 9, `${sigma}\u03c3`);
    }
  }
  host.append(legend([[svg('rect', { x: 2, y: 1, width: 18, height: 12, fill: 'var(--band)', opacity: 0.45 }),
    'measured'], [lineSample({ stroke: 'var(--e3)' }), 'if the covariance were true (chi, 3 degrees of freedom)']]),
  caption('Bars to the right of the curve: errors are larger than the covariance says. Bars to the left: it is too careful.'));
});

register('confidence', (host) => {
  const { confidence, acceptance } = data;
  const isRated = Boolean(confidence && confidence.reliability && confidence.reliability.length);
  const hasCurves = Boolean(acceptance && acceptance.thresholds);
  const places = panels(host, ...(isRated ? ['Reliability'] : []),
    ...(hasCurves ? ['What a threshold accepts'] : []));
  if (isRated) {
    const where = places[0];
    const { root, x, y } = chart(where, { height: 300, x: { low: 0, high: 1, label: 'confidence told',
      format: percentText }, y: { low: 0, high: 1.06, ticks: [0, 0.2, 0.4, 0.6, 0.8, 1], label: 'share of good answers', format: percentText },
    title: 'Reliability diagram', description: confidence.reliability.map(([told, good, count]) =>
      `${count} answers: told ${percentText(told)}, good ${percentText(good)}`).join('; ') });
    root.append(svg('path', { d: path([[x(0), y(0)], [x(1), y(1)]]), stroke: 'var(--soft)',
      'stroke-dasharray': '5 4' }));
    const most = Math.max(...confidence.reliability.map((row) => row[2]));
    for (const [told, good, count] of confidence.reliability) {
      root.append(svg('line', { x1: x(told), x2: x(told), y1: y(told), y2: y(good), stroke: 'var(--e3)' }),
        svg('circle', { cx: x(told), cy: y(good), r: 2.5 + 4.5 * Math.sqrt(count / most),
          fill: 'var(--accent)', opacity: 0.8 }, svg('title', {}, `${count} answers: told ${percentText(told)}, good ${percentText(good)}`)));
    }
    where.append(caption(`Each dot stands for ${confidence.reliability[0][2]} or so answers; good is an error of at most `
      + `${lengthText(confidence.bound_m)} and ${angleText(confidence.bound_deg)}. On the dashed line the confidence is honest. `
      + (confidence.expected_calibration_error === null ? '' : `Expected calibration error: ${confidence.expected_calibration_error.toFixed(3)}.`)));
  }
  if (hasCurves) {
    const where = places[places.length - 1];
    const threshold = (acceptance.at_threshold || {}).threshold ?? (confidence || {}).threshold ?? null;
    const lines = [['good_accepted', `good answers (${acceptance.good_frames ?? 'held out'})`, { stroke: 'var(--accent)' }],
      ['wrong_accepted', `wrong answers of this place (${acceptance.wrong_frames ?? ''})`, { stroke: 'var(--e2)', 'stroke-dasharray': '7 3' }],
      ['elsewhere_accepted', `images of other places (${acceptance.elsewhere_frames ?? 0})`, { stroke: 'var(--e4)', 'stroke-dasharray': '2 3' }]]
      .filter(([key]) => acceptance[key]);
    const { root, x, y, box } = chart(where, { height: 300, x: { low: 0, high: 1, label: 'threshold of the confidence' },
      y: { low: 0, high: 1.06, ticks: [0, 0.2, 0.4, 0.6, 0.8, 1], label: 'share accepted', format: percentText },
      title: 'Share of images accepted over the threshold', description: threshold === null ? '' : `The stored threshold is ${threshold}.` });
    for (const [key, , style] of lines) root.append(svg('path', { fill: 'none', 'stroke-width': 2.2, ...style,
      d: path(acceptance.thresholds.map((limit, i) => [x(limit), y(acceptance[key][i])])) }));
    if (threshold !== null) {
      root.append(svg('line', { x1: x(threshold), x2: x(threshold), y1: box.top, y2: box.bottom, stroke: 'var(--ink)', 'stroke-width': 1.5 }));
      textLine(root, x(threshold) + (threshold > 0.5 ? -5 : 5), box.bottom - 8, `stored: ${trim(threshold)}`, threshold > 0.5 ? 'end' : 'start', 'fill: var(--ink)');
    }
    where.append(legend(lines.map(([, text, style]) => [lineSample(style), text])),
      caption(acceptance.elsewhere_accepted ? 'A good threshold accepts most good answers and nearly no image of another place.'
        : 'No images of other places were asked about (--elsewhere SCENE), so false accepts are not known here.'));
  }
});

register('comparison', (host) => {
  const { against, rows } = data.comparison;
  const units = [...new Set(rows.map((row) => row.unit))];
  const left = Math.min(260, 0.45 * host.clientWidth);
  for (const unit of units) {
    const some = rows.filter((row) => row.unit === unit);
    const ends = some.flatMap((row) => [row.low, row.high, row.difference]).filter((v) => v !== null);
    const span = 1.15 * Math.max(1e-6, ...ends.map(Math.abs));
    const height = 26 * some.length + 56;
    const where = html('div', {});
    host.append(where);
    const { root, x, box } = chart(where, { height, box: { left, top: 6, bottom: height - 44 },
      width: host.clientWidth, x: { low: -span, high: span, label: `difference to ${against} [${unit}]`,
        format: (value) => `${value > 0 ? '+' : ''}${trim(value)}` },
      y: { low: 0, high: 1, ticks: [] }, title: `Differences to ${against} in ${unit}`,
      description: some.map((row) => `${row.label}: ${row.difference} (${row.low} to ${row.high})`).join('; ') });
    root.append(svg('line', { x1: x(0), x2: x(0), y1: box.top, y2: box.bottom, stroke: 'var(--ink)' }));
    some.forEach((row, i) => {
      const y = box.top + 14 + 26 * i;
      // What is beyond all bounds reaches to the edge.
      const from = row.low === null ? box.left : x(row.low), to = row.high === null ? box.right : x(row.high);
      const verdict = row.verdict ?? (row.is_clear ? 'clear' : '');
      const colour = verdict === 'better' ? 'var(--good)' : verdict ? 'var(--bad)' : 'var(--soft)';
      root.append(svg('line', { x1: from, x2: to, y1: y, y2: y, stroke: colour, 'stroke-width': 4, opacity: 0.45 }));
      if (row.difference !== null) root.append(mark(row.is_clear ? 'diamond' : 'circle', x(row.difference), y, 4.5,
        { fill: row.is_clear ? colour : 'var(--sheet)', stroke: colour, 'stroke-width': 1.6 }));
      else textLine(root, row.high === null ? box.right - 2 : box.left + 2, y - 4, '\u221e', row.high === null ? 'end' : 'start');
      textLine(root, box.left - 8, y + 4, row.label, 'end');
    });
  }
  host.append(legend([[mark('diamond', 11, 7, 4.5, { fill: 'var(--ink)' }), 'clear: the interval leaves zero out (green better, red worse)'],
    [mark('circle', 11, 7, 4.5, { fill: 'none', stroke: 'var(--soft)' }), 'may be chance']]),
  caption('Bars are bootstrap intervals of the difference on the frames that both results have.'));
});
