// One frame is selected at a time, wherever it was pointed at; all plots mark it.
const drawn = [];
let selected = null;

// draw(host) returns {mark(place)} or nothing; it is called again when the width changes.
function register(name, draw) {
  const host = document.getElementById(`${name}-plot`);
  if (!host) return;
  const part = { host, draw, width: 0, marks: null };
  drawn.push(part);
}

function drawPart(part) {
  const width = part.host.clientWidth;
  if (width === part.width) return;
  part.width = width;
  try {
    part.host.replaceChildren();
    part.marks = part.draw(part.host) || null;
    if (selected !== null && part.marks) part.marks(selected);
  } catch (error) {
    report(`${part.host.id}: ${error.message}`);
    part.host.append(html('p', { class: 'absent' }, `This plot could not be drawn: ${error.message}`));
  }
}

function select(place) {
  if (place === null || place < 0 || place >= frames.name.length || place === selected) return;
  selected = place;
  for (const part of drawn) if (part.marks) part.marks(place);
  showCard(place);
}

function closeCard() {
  document.getElementById('card').hidden = true;
}

function pictureOf(place) {
  const figure = document.querySelector(`figure[data-frame="${place}"] img`);
  return figure ? figure.src : null;
}

function stateAt(time) {
  if (time === null) return null;
  return data.states.find(([from, to]) => time >= from && time < to) || null;
}

function showCard(place) {
  const rows = [['image', data.groups[frames.group[place]]]];
  if (frames.time[place] !== null) rows.push(['time', `${frames.time[place].toFixed(2)} s`]);
  const answered = frames.estimate[place] !== null;
  if (frames.position[place] !== null) {
    rows.push(['error', `${lengthText(frames.position[place])} / ${angleText(frames.rotation[place])}`]);
  } else rows.push(['error', answered ? 'no reference to compare with' : 'no answer']);
  if (frames.sigma[place] !== null) {
    rows.push(['1 sigma, position', lengthText(frames.sigma[place])],
      ['normalised error', `${trim(frames.normalised[place])} (position), ${trim(frames.normalised_turn[place] ?? 0)} (rotation)`]);
  }
  if (frames.confidence[place] !== null) rows.push(['confidence', frames.confidence[place].toFixed(3)]);
  const state = stateAt(frames.time[place]);
  if (state) rows.push(['state', `${state[2]}: ${state[3]}`]);
  const why = frames.refusals[frames.refusal[place]];
  if (why) rows.push(['why', why]);
  const close = html('button', { type: 'button', 'aria-label': 'close' }, '\u00d7');
  close.addEventListener('click', closeCard);
  const card = document.getElementById('card');
  const picture = pictureOf(place);
  card.replaceChildren(
    html('header', {}, html('h3', {}, frames.name[place]), close),
    html('dl', {}, ...rows.map(([name, value]) =>
      html('div', {}, html('dt', {}, name), html('dd', {}, value)))),
    ...(picture ? [html('img', { src: picture, alt: `camera image ${frames.name[place]}` })] : []));
  card.hidden = false;
}

// Pointer and arrow keys lead to the nearest of some frames; at(place) is its spot in the plot.
function followPointer(root, places, at) {
  root.addEventListener('pointermove', (event) => {
    if (event.pointerType !== 'touch') choose(event);
  });
  root.addEventListener('click', choose);
  function choose(event) {
    const bounds = root.getBoundingClientRect();
    const scale = root.viewBox.baseVal.width / bounds.width;
    const x = (event.clientX - bounds.left) * scale, y = (event.clientY - bounds.top) * scale;
    let best = null, nearest = 40;
    for (const place of places) {
      const spot = at(place);
      if (!spot) continue;
      const distance = Math.hypot(spot[0] - x, spot[1] === null ? 0 : spot[1] - y);
      if (distance < nearest) { nearest = distance; best = place; }
    }
    if (best !== null) select(best);
  }
  root.addEventListener('keydown', (event) => {
    const steps = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1, PageDown: 10, PageUp: -10 };
    if (event.key === 'Escape') closeCard();
    if (!(event.key in steps) || !places.length) return;
    event.preventDefault();
    const now = places.indexOf(selected);
    select(places[Math.min(Math.max((now < 0 ? -1 : now) + steps[event.key], 0), places.length - 1)]);
  });
}
document.addEventListener('keydown', (event) => { if (event.key === 'Escape') closeCard(); });

const placesOf = (group) => frames.group.flatMap((name, place) => name === group ? [place] : []);
const judged = placesOf(data.judged);

// Which bound an error keeps: an index into errorClasses.
const errorClasses = [...data.limits.map(([, , label]) => `within ${label}`), 'worse'];
const errorShapes = ['circle', 'circle', 'circle', 'diamond', 'triangle'];
const errorSizes = [2.6, 3.2, 3.8, 4, 5];
function errorClass(place) {
  const position = frames.position[place], rotation = frames.rotation[place];
  if (position === null) return null;
  const found = data.limits.findIndex(([metres, degrees]) => position <= metres && rotation <= degrees);
  return found < 0 ? data.limits.length : found;
}
const classColour = (index) => `var(--e${Math.min(index, 4)})`;
