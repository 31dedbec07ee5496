// The learned place to turn around: points, cameras and trajectories on a plain canvas.
function decode(text, type) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  return new type(bytes.buffer);
}

register('space', (host) => {
  const canvas = html('canvas', { tabindex: 0, role: 'img', 'aria-label': 'The learned place: '
    + 'drag to turn, wheel or pinch to zoom, shift and drag to move, arrow keys and + - to do the same' });
  const button = (text, action) => {
    const element = html('button', { type: 'button' }, text);
    element.addEventListener('click', () => { action(); request(); });
    return element;
  };
  const show = { cloud: Boolean(data.cloud), true: true, estimate: true };
  const toggles = [['cloud', 'points'], ['true', data.kind === 'run' ? 'reference' : 'true cameras'], ['estimate', 'estimates']]
    .filter(([key]) => key !== 'cloud' || data.cloud).map(([key, text]) => {
      const input = html('input', { type: 'checkbox' });
      input.checked = show[key];
      input.addEventListener('change', () => { show[key] = input.checked; request(); });
      return html('label', {}, input, ` ${text}`);
    });
  host.append(canvas, html('div', { class: 'tools' }, ...toggles,
    button('from above', () => { view.tilt = Math.PI / 2; view.turn = 0; }),
    button('from the side', () => { view.tilt = 0.12; }),
    button('start again', () => reset())),
  legend([[lineSample({ stroke: 'var(--truth)' }), data.kind === 'run' ? 'reference' : 'true camera'],
    [lineSample({ stroke: 'var(--e3)' }), 'estimate']]),
  caption((data.cloud ? `${data.cloud.count} points of the model, as it places what it sees in ` + 'these images. ' : '')
    + 'Drag to turn, wheel or two fingers to zoom, shift and drag to move; the arrow keys and + and - do the same. '
    + 'The wheel zooms once the picture was clicked.'));
  const width = Math.max(260, host.clientWidth), height = Math.round(Math.min(560, Math.max(320, 0.6 * width)));
  const density = Math.min(window.devicePixelRatio || 1, 2);
  canvas.width = Math.round(width * density); canvas.height = Math.round(height * density);
  canvas.style.height = `${height}px`;
  const context = canvas.getContext('2d');
  const cloud = data.cloud && { points: decode(data.cloud.points, Int16Array), colours: decode(data.cloud.colours, Uint8Array),
    step: data.cloud.step_m, centre: data.cloud.centre, count: data.cloud.count };
  const poses = ['true', 'estimate'].map((key) => frames[key].flatMap((pose, place) => pose ? [{ pose, place }] : []));
  const spots = cloud ? [] : poses.flat().map(({ pose }) => pose);
  const centre = cloud ? cloud.centre : [0, 1, 2].map((i) => spots.length
    ? (Math.min(...spots.map((s) => s[i])) + Math.max(...spots.map((s) => s[i]))) / 2 : 0);
  const radius = cloud ? Math.max(reachOf(cloud), ...poses[0].map(({ pose }) => 0.9 * Math.hypot(...pose.slice(0, 3).map((v, i) => v - centre[i])))) : Math.max(1, ...spots.map((s) => Math.hypot(...s.slice(0, 3).map((v, i) => v - centre[i]))));
  const view = {};
  function reset() { Object.assign(view, { turn: -0.6, tilt: 0.75, zoom: 1.2, x: 0, y: 0 }); }
  reset();
  let waiting = false;
  function request() {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; render(); });
  }
  function camera() {
    const [ct, st, ce, se] = [Math.cos(view.turn), Math.sin(view.turn), Math.cos(view.tilt), Math.sin(view.tilt)];
    const distance = 2.6 * radius / view.zoom;
    const focal = 1.25 * Math.min(canvas.width, canvas.height);
    return (px, py, pz) => {
      const x = px - centre[0], y = py - centre[1], z = pz - centre[2];
      const right = ct * x + st * y, ahead = -st * x + ct * y;
      const depth = distance + ce * ahead - se * z, up = se * ahead + ce * z;
      if (depth < 0.03 * radius) return null;
      return [canvas.width / 2 + view.x * density + focal * right / depth, canvas.height / 2 + view.y * density - focal * up / depth, depth];
    };
  }
  function render() {
    const project = camera();
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name).trim();
    context.fillStyle = colour('--space');
    context.fillRect(0, 0, canvas.width, canvas.height);
    if (cloud && show.cloud) renderCloud(project);
    drawPoses(project, poses[0], show.true, colour('--truth'));
    drawPoses(project, poses[1], show.estimate, colour('--e3'));
    if (selected !== null) {
      const pose = frames.estimate[selected] || frames.true[selected];
      if (pose) frustum(project, pose, colour('--focus'), 3);
    }
  }
  function renderCloud(project) {
    const image = context.getImageData(0, 0, canvas.width, canvas.height);
    const pixels = new Uint32Array(image.data.buffer);
    const nearest = new Float32Array(pixels.length).fill(Infinity);
    const { points, colours, step, count } = cloud;
    const base = 0.0042 * Math.min(canvas.width, canvas.height) * 2.6 * radius;
    for (let i = 0; i < count; i++) {
      const at = project(cloud.centre[0] + step * points[3 * i], cloud.centre[1] + step * points[3 * i + 1], cloud.centre[2] + step * points[3 * i + 2]);
      if (!at) continue;
      const size = Math.min(Math.max(Math.round(base / at[2]), 2), 9);
      const left = Math.round(at[0]), top = Math.round(at[1]);
      if (left < 0 || top < 0 || left + size > canvas.width || top + size > canvas.height) continue;
      const value = 0xff000000 | (colours[3 * i + 2] << 16) | (colours[3 * i + 1] << 8) | colours[3 * i];
      for (let row = top; row < top + size; row++) {
        for (let column = left; column < left + size; column++) {
          const k = row * canvas.width + column;
          if (at[2] < nearest[k]) { nearest[k] = at[2]; pixels[k] = value; }
        }
      }
    }
    context.putImageData(image, 0, 0);
  }
  function segment(project, from, to) {
    const a = project(...from), b = project(...to);
    if (!a || !b) return;
    context.moveTo(a[0], a[1]); context.lineTo(b[0], b[1]);
  }
  function drawPoses(project, items, visible, colour) {
    if (!visible || !items.length) return;
    context.strokeStyle = colour; context.lineWidth = 1.6 * density;
    if (data.kind === 'run') {
      context.beginPath();
      for (let i = 1; i < items.length; i++) {
        if (items[i].place === items[i - 1].place + 1) segment(project, items[i - 1].pose.slice(0, 3), items[i].pose.slice(0, 3));
      }
      context.stroke();
    }
    const every = Math.ceil(items.length / (data.kind === 'run' ? 120 : 60));
    items.forEach(({ pose, place }, i) => {
      if (i % every === 0 && (frames.group[place] !== 'train' || data.kind === 'run')) frustum(project, pose, colour, 1);
    });
  }
  function frustum(project, pose, colour, thick) {
    const length = 0.045 * radius, tip = pose.slice(0, 3);
    const corners = [[-1, -1], [1, -1], [1, 1], [-1, 1]].map(([x, y]) =>
      rotate(pose.slice(3), [0.6 * length * x, 0.45 * length * y, length]).map((v, i) => v + tip[i]));
    context.strokeStyle = colour; context.lineWidth = thick * density;
    context.beginPath();
    corners.forEach((corner, i) => { segment(project, tip, corner); segment(project, corner, corners[(i + 1) % 4]); });
    context.stroke();
  }
  steer(canvas, view, request);
  render();
  window.matchMedia('(prefers-color-scheme: dark)').addEventListener('change', request);
  return request;
});

function reachOf(cloud) {
  // Most points lie within it; a few far ones shall not make the place small.
  const distances = [];
  for (let i = 0; i < cloud.count; i += 7) {
    distances.push(cloud.step * Math.hypot(cloud.points[3 * i], cloud.points[3 * i + 1], cloud.points[3 * i + 2]));
  }
  return Math.max(quantile(distances, 0.95), 0.1);
}

function steer(canvas, view, request) {
  const held = new Map();
  let apart = null;
  const limit = (value, low, high) => Math.min(Math.max(value, low), high);
  const zoom = (factor) => { view.zoom = limit(view.zoom * factor, 0.2, 40); request(); };
  canvas.addEventListener('pointerdown', (event) => {
    held.set(event.pointerId, [event.clientX, event.clientY]);
    try { canvas.setPointerCapture(event.pointerId); } catch { /* a pointer that is gone */ }
    canvas.focus({ preventScroll: true });
  });
  const release = (event) => { held.delete(event.pointerId); apart = null; };
  canvas.addEventListener('pointerup', release);
  canvas.addEventListener('pointercancel', release);
  canvas.addEventListener('pointermove', (event) => {
    const before = held.get(event.pointerId);
    if (!before) return;
    const dx = event.clientX - before[0], dy = event.clientY - before[1];
    held.set(event.pointerId, [event.clientX, event.clientY]);
    if (held.size === 2) {
      const [a, b] = [...held.values()];
      const now = Math.hypot(a[0] - b[0], a[1] - b[1]);
      if (apart) zoom(now / apart);
      apart = now;
      view.x += dx / 2; view.y += dy / 2;
    } else if (event.shiftKey || event.buttons === 2) {
      view.x += dx; view.y += dy;
    } else {
      view.turn -= dx * 0.008;
      view.tilt = limit(view.tilt + dy * 0.008, -Math.PI / 2, Math.PI / 2);
    }
    request();
  });
  canvas.addEventListener('contextmenu', (event) => event.preventDefault());
  // Who scrolls past it wants to scroll the page.
  canvas.addEventListener('wheel', (event) => {
    if (document.activeElement !== canvas) return;
    event.preventDefault();
    zoom(Math.exp(-0.0015 * event.deltaY));
  }, { passive: false });
  canvas.addEventListener('keydown', (event) => {
    const keys = { ArrowLeft: () => { view.turn += 0.1; }, ArrowRight: () => { view.turn -= 0.1; },
      ArrowUp: () => { view.tilt = limit(view.tilt + 0.1, -Math.PI / 2, Math.PI / 2); },
      ArrowDown: () => { view.tilt = limit(view.tilt - 0.1, -Math.PI / 2, Math.PI / 2); },
      '+': () => zoom(1.2), '=': () => zoom(1.2), '-': () => zoom(1 / 1.2) };
    if (!(event.key in keys)) return;
    event.preventDefault();
    keys[event.key]();
    request();
  });
}
