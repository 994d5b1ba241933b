// The map: every picture at its place, as a dot; as a thumbnail where there is room for it.
import { alt, load, make, number, of, table, thumb } from "./api.js";
import { address, asked, chip, hash, mark, state } from "./filter.js";
import { empty, go, place, say, trouble } from "./main.js";
import { paletteOf, Points, Raster } from "./points.js";

const SIDE = 65536, LEAST = 40, MOST = 96; // units of the map; pixels of a thumbnail
const MANY = 100_000, SOME = 20_000, EVERY = 4; // points: of more, every fourth is drawn in a drag; of fewer, each is noted
const KEPT = 600, CORNERS = 100;
const HUES = [205, 25, 150, 340, 265, 48, 178, 300, 0, 95, 230, 125];
const [DIM, PLAIN, OTHER] = [0, 1, 2]; // kinds of points; then one for each group
const dark = matchMedia("(prefers-color-scheme: dark)");

let kept, colours = "", groups, waiting; // the places as they came; the facet that gives the colours, and each row's group
let canvas, context, raster, palette, tip, lead, legend, tools;
let layers = [], chosen, ring = -1, shown = [], tiles = []; // what is drawn; the first of the layers is not chosen
let view = { x: SIDE / 2, y: SIDE / 2, zoom: 0 }; // the middle, in units; pixels a unit, 0 until the size is known
let moving = false, frame = 0, rest = 0, lasso, drawing = false, at = -1, hovered = 0;
const pointers = new Map(), images = new Map();

export async function map(meant) {
  clearTimeout(waiting);
  if (kept?.v !== table.v) {
    if (!waiting) place("Map", [empty("Reading the map …")]);
    const about = await of("/api/map");
    if (!about.made) return unmade(about, meant);
    waiting = undefined;
    if (!about.by.includes(colours)) colours = about.by.includes("looks like") ? "looks like" : "";
    about.places = new Uint16Array(await of("/api/map/places", {}, { raw: true }));
    await paint(about);
    kept = about;
    images.clear();
    canvas = undefined;
  }
  [chosen, ring] = await choose(meant);
  layer();
  if (!canvas?.isConnected) build();
  tell(meant);
  draw();
}

// -- what is said about it --

function unmade({ rows, seconds, memory, type }, meant) {
  say("No map yet");
  if (!rows) return place("Map", [empty("This table has no pictures yet.")]);
  place("Map", [empty("This table has no map yet. A map gives every picture a place near those that look like it. ",
    `For ${number(rows)} pictures it takes about ${seconds}, and up to ${memory} of memory. To make it, type:`,
    make("p", {}, make("code", {}, type)), "It is shown here when it is made.")]);
  waiting = setTimeout(() => state().has("map") && map(meant).catch(trouble), 3000);
}

function tell(meant) {
  const { says, note } = meant, placed = number(kept.placed), some = layers.length > 1 && number(layers[1].count);
  say(some ? `${some} of ${placed} pictures on the map${says}` : `${placed} pictures on the map`);
  const parts = [note && make("p", { className: "soft" }, note)];
  if (some) {
    const rest = Object.fromEntries([...state()].filter(([name]) => name !== "map"));
    parts.push(make("p", {}, `${some} of ${placed}${says}`), make("a", { href: `#${hash(rest)}` }, "Show them"),
      make("a", { href: "#map" }, "All"));
  }
  const missing = kept.rows - kept.placed;
  if (missing || kept.due) {
    const why = kept.due === "make again" ? "The table has at least doubled since the map was made." : "";
    const lack = missing ? `${number(missing)} picture${missing === 1 ? " is" : "s are"} not on the map yet.` : "";
    parts.push(make("p", { className: "soft" }, `${lack} ${why} To bring it up to date, type: `.trim(), " ", make("code", {}, kept.type)),
      make("button", { onclick: () => { kept = undefined; map(meant).catch(trouble); } }, "Look again"));
  }
  lead.replaceChildren(...parts.filter(Boolean));
  lead.hidden = !lead.childNodes.length;
  mark(legend);
}

const LIMITS = (landmarks, rows) => rows > landmarks
  ? "The map shows regions: two pictures side by side are often only of the same kind, and distances between far groups mean little. For those most like a picture, click it."
  : "Most neighbours on the map are true ones, not all; distances between far groups mean little. For those most like a picture, click it.";

// -- what is drawn --

async function choose({ question = {}, key }) {
  if (key !== undefined) {
    const { row } = await of("/api/row", { key });
    const rows = new Set((await of("/api/near", { row, k: 60, ...asked() })).rows.map((one) => one.row)).add(row);
    return [(one) => rows.has(one), row];
  }
  if (!Object.keys(question).length) return [null, -1];
  const bits = new Uint8Array(await of("/api/chosen", question, { raw: true }));
  return [(row) => (bits[row >> 3] >> (row & 7)) & 1, -1];
}

function layer() {
  layers = chosen ? [new Points(kept.places, (row) => !chosen(row)), new Points(kept.places, chosen)] : [new Points(kept.places)];
  shown = [];
  ink();
}

function ink() {
  const kindOf = groups ? (row) => OTHER + groups[row] : () => PLAIN;
  layers.at(-1)?.paint(kindOf);
  if (layers.length > 1) layers[0].paint(() => DIM);
}

// The groups that give the colours, and what they are called.
async function paint(about) {
  const facet = colours && (await of("/api/facets")).facets.find((one) => one.name === colours);
  groups = facet ? new Uint8Array(await of("/api/map/colours", { by: colours }, { raw: true })) : undefined;
  about.values = facet?.values || [];
}

const hue = (index) => `hsl(${HUES[index % HUES.length]} 70% ${dark.matches ? 66 : 42}%)`;

function ready() {
  const style = getComputedStyle(document.documentElement);
  const rgb = (colour) => {
    context.fillStyle = colour;
    return [1, 3, 5].map((from) => parseInt(context.fillStyle.slice(from, from + 2), 16));
  };
  const named = ["--soft", "--accent", "--soft"].map((name) => rgb(style.getPropertyValue(name).trim()));
  palette = (least) => paletteOf([...named, ...HUES.map((_, index) => rgb(hue(index)))], least);
  for (const one of legend.querySelectorAll("i")) one.style.background = hue(one.index);
}

function build() {
  const button = (name, title, onclick) => make("button", { type: "button", title, ...(name.length < 2 && { "aria-label": title }), onclick }, name);
  const by = make("select", { "aria-label": "Colours", onchange: () => {
    colours = by.value;
    paint(kept).then(() => {
      ink();
      explain();
      draw();
    }, trouble);
  } }, ...["", ...kept.by].map((name) => make("option", { value: name, selected: name === colours }, name ? `colours: ${name}` : "one colour")));
  lasso = button("Select an area", "Draw around pictures to select them (or hold Shift)", () => select(!drawing));
  tools = make("div", { className: "tools", role: "group", "aria-label": "The map's tools" }, button("+", "Closer", () => zoom(1.6)), button("−", "Further away", () => zoom(1 / 1.6)),
    button("Whole map", "The whole map", whole), lasso, button("List what is in view", "List the pictures in view", list), by);
  lead = make("div", { className: "lead" });
  legend = make("div", { className: "chips legend", role: "group", "aria-label": "Colours, and how many pictures have them" });
  canvas = make("canvas", { tabIndex: 0, role: "application", "aria-label": "Map of the pictures",
    "aria-description": "Arrow keys move, plus and minus zoom, 0 shows the whole map. Enter opens the picture in the middle, l lists those in view." });
  tip = make("div", { className: "tip", "aria-hidden": "true", hidden: true });
  context = canvas.getContext("2d", { willReadFrequently: true });
  listen();
  place("Map", [lead, tools, legend, make("div", { className: "plane" }, canvas, tip), make("p", { className: "soft limits" }, LIMITS(kept.landmarks, kept.placed))]);
  select(false);
  explain();
  new ResizeObserver(size).observe(canvas);
}

function explain() {
  legend.replaceChildren(...kept.values.map((value, index) => chip(value, Object.assign(make("i"), { index }))));
  mark(legend);
  legend.hidden = !kept.values.length;
  ready();
}

function size(_, observer) {
  if (!canvas?.isConnected) return observer.disconnect();
  const ratio = Math.min(devicePixelRatio, 2), width = Math.round(canvas.clientWidth * ratio), height = Math.round(canvas.clientHeight * ratio);
  if (!width || !height) return;
  if (canvas.width !== width || canvas.height !== height || !raster) {
    Object.assign(canvas, { width, height, ratio });
    raster = new Raster(context, width, height);
    if (!view.zoom) whole();
  }
  draw(true);
}

const draw = (now) => (now === true ? render() : (frame ||= requestAnimationFrame(render)));

function render() {
  frame = 0;
  if (!canvas?.isConnected || !raster || !palette) return;
  const { width, height, ratio } = canvas, scale = view.zoom * ratio;
  const seen = { scale, left: view.x - width / 2 / scale, top: view.y - height / 2 / scale, right: view.x + width / 2 / scale, bottom: view.y + height / 2 / scale };
  const counts = layers.map((points) => points.about(seen)), most = Math.max(...counts);
  const step = moving && most > MANY ? EVERY : 1;
  const size = (count) => Math.round(Math.min(7 * ratio, Math.max(1, 0.35 * Math.sqrt((width * height) / (count || 1)))));
  const top = counts.length - 1, noted = counts[top] <= SOME ? [] : undefined;
  raster.clear();
  layers.forEach((points, index) => points.draw(raster, seen, size(index < top ? most : counts[top]), step, index === top ? noted : undefined));
  raster.show(palette(size(most) > 2 ? 0.85 : 0.4));
  thumbnails(layers[top], noted, seen);
  marks(seen);
}

// Thumbnails of the points in view, if there is room for each of them; where one would cover another, its point stays.
function thumbnails(points, noted, { left, top, scale }) {
  const { width, height, ratio } = canvas;
  const room = Math.sqrt((width * height) / (noted?.length || 1)) / ratio;
  const before = new Set(shown);
  [shown, tiles] = [[], []];
  if (!noted?.length || 0.8 * room < LEAST) return;
  const side = Math.min(MOST, Math.max(LEAST, 0.45 * room)) * ratio;
  for (const point of [...noted.filter((one) => before.has(one)), ...noted.filter((one) => !before.has(one))]) {
    const x = (points.x[point] - left) * scale, y = (points.y[point] - top) * scale;
    if (tiles.some((tile) => Math.abs(tile.x - x) < side + 4 && Math.abs(tile.y - y) < side + 4)) continue;
    shown.push(point);
    const row = points.rows[point], image = picture(row);
    if (!image?.naturalWidth) continue;
    tiles.push({ x, y, row, side });
    context.fillStyle = groups?.[row] ? hue(groups[row] - 1) : getComputedStyle(canvas).color;
    context.fillRect(x - side / 2 - ratio, y - side / 2 - ratio, side + 2 * ratio, side + 2 * ratio);
    context.drawImage(image, x - side / 2, y - side / 2, side, side);
  }
}

function picture(row) {
  let image = images.get(row);
  if (!image && !moving) {
    image = make("img", { src: thumb(row), onload: draw });
    images.set(row, image);
    if (images.size > KEPT) images.delete(images.keys().next().value);
  }
  return image;
}

function marks({ left, top, scale }) {
  const on = (x, y) => [(x - left) * scale, (y - top) * scale];
  context.lineWidth = 2 * canvas.ratio;
  context.strokeStyle = getComputedStyle(canvas).color;
  const circle = (x, y, radius) => {
    context.beginPath();
    context.arc(x, y, radius * canvas.ratio, 0, 7);
    context.stroke();
  };
  if (ring >= 0 && kept.places[2 * ring] < SIDE - 1) circle(...on(kept.places[2 * ring], kept.places[2 * ring + 1]), 10);
  if (at >= 0) circle(...on(kept.places[2 * at], kept.places[2 * at + 1]), 7);
  const corners = drawing.length ? drawing : area();
  if (!corners) return;
  context.beginPath();
  for (const [x, y] of corners) context.lineTo(...on(x, y));
  if (!drawing.length) context.closePath();
  context.stroke();
}

function area() {
  const given = state().get("area")?.split(",").map(Number);
  return given && Array.from({ length: given.length >> 1 }, (_, index) => [given[2 * index], given[2 * index + 1]]);
}

// -- moving about --

function whole() {
  Object.assign(view, { x: SIDE / 2, y: SIDE / 2, zoom: least() });
  draw();
}

const least = () => Math.min(canvas.clientWidth, canvas.clientHeight) / SIDE / 1.05;

// Closer by a factor; what is at this place of the canvas, in CSS pixels, stays there.
function zoom(factor, x = canvas.clientWidth / 2, y = canvas.clientHeight / 2) {
  const [across, down] = [x - canvas.clientWidth / 2, y - canvas.clientHeight / 2], before = view.zoom;
  view.zoom = Math.min(1, Math.max(least() / 2, before * factor));
  move(across / before - across / view.zoom, down / before - down / view.zoom);
}

function move(across, down) {
  const within = (value) => Math.min(SIDE, Math.max(0, value));
  Object.assign(view, { x: within(view.x + across), y: within(view.y + down) });
  hover();
  moving = true;
  clearTimeout(rest);
  rest = setTimeout(settle, 150);
  draw();
}

function settle() {
  clearTimeout(rest);
  moving = pointers.size > 0 && !drawing;
  draw();
}

const placeOf = ([x, y]) => [view.x + (x - canvas.clientWidth / 2) / view.zoom, view.y + (y - canvas.clientHeight / 2) / view.zoom];

// The row at a place of the canvas: of the thumbnail there, or of the nearest point.
function rowAt(x, y, within = 12) {
  const tile = tiles.find((one) => Math.abs(one.x - x * canvas.ratio) <= one.side / 2 && Math.abs(one.y - y * canvas.ratio) <= one.side / 2);
  if (tile) return tile.row;
  for (const points of layers.toReversed()) {
    const found = points.nearest(...placeOf([x, y]), within / view.zoom);
    if (found >= 0) return points.rows[found];
  }
  return -1;
}

// Show which picture is at a place; nothing without one.
async function hover(row = -1, x = 0, y = 0, aloud = false) {
  if (row === at && row >= 0) return;
  at = row;
  const turn = ++hovered;
  tip.hidden = true;
  draw();
  if (row < 0) return;
  await new Promise((after) => setTimeout(after, 60));
  if (turn !== hovered) return;
  const known = await of("/api/row", { row }).catch(() => null);
  if (turn !== hovered || !known) return;
  const image = make("img"), box = make("span", { className: "thumb" }, image), words = alt(known);
  load(image, thumb(row), box, words);
  tip.replaceChildren(box, make("span", { className: "name" }, known.key));
  tip.hidden = false;
  tip.style.left = `${Math.max(0, Math.min(x + 14, canvas.clientWidth - tip.offsetWidth - 4))}px`;
  tip.style.top = `${Math.max(0, y + 14 + tip.offsetHeight > canvas.clientHeight ? y - 14 - tip.offsetHeight : y + 14)}px`;
  if (aloud) say(words);
}

async function open(row) {
  if (row < 0) return;
  const { key } = await of("/api/row", { row });
  go(address({ near: key }));
}

function select(on) {
  drawing = on && [];
  lasso.setAttribute("aria-pressed", String(on));
  canvas.classList.toggle("drawing", on);
}

// Go to the grid of the pictures in an area, of those that are highlighted.
function enclosed(corners) {
  const some = corners.filter((_, index) => !(index % Math.ceil(corners.length / CORNERS)));
  const within = (value) => Math.round(Math.min(SIDE, Math.max(0, value)));
  const { q, name } = Object.fromEntries(state());
  go(address({ ...(q && { q }), ...(name && { name }), area: some.flat().map(within).join() }));
}

function list() {
  const [left, top] = placeOf([0, 0]), [right, bottom] = placeOf([canvas.clientWidth, canvas.clientHeight]);
  enclosed([[left, top], [right, top], [right, bottom], [left, bottom]]);
}

function listen() {
  const spot = (event) => [event.offsetX, event.offsetY];
  let began, travelled = 0;
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoom(Math.exp(-event.deltaY * (event.ctrlKey ? 0.01 : event.deltaMode ? 0.03 : 0.0015)), ...spot(event));
  }, { passive: false });
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    canvas.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, spot(event));
    if (pointers.size === 1) [began, travelled] = [spot(event), 0];
    if (event.shiftKey && !drawing) select(true);
    hover();
  });
  canvas.addEventListener("pointermove", (event) => {
    const before = pointers.get(event.pointerId), now = spot(event);
    if (!before) return event.pointerType === "mouse" && hover(rowAt(...now), ...now);
    pointers.set(event.pointerId, now);
    travelled = Math.max(travelled, Math.hypot(now[0] - began[0], now[1] - began[1]));
    if (pointers.size > 1) {
      const other = [...pointers].find(([id]) => id !== event.pointerId)[1], apart = (one) => Math.hypot(one[0] - other[0], one[1] - other[1]) || 1;
      travelled = 99;
      zoom(apart(now) / apart(before), ...other);
    } else if (drawing) {
      const last = drawing.at(-1), next = placeOf(now);
      if (!last || Math.hypot(next[0] - last[0], next[1] - last[1]) * view.zoom > 4) drawing.push(next);
      draw();
    } else if (travelled > 4) move((before[0] - now[0]) / view.zoom, (before[1] - now[1]) / view.zoom);
  });
  const up = (event) => {
    if (!pointers.delete(event.pointerId) || pointers.size) return;
    const corners = drawing;
    if (corners) select(false);
    settle();
    if (event.type === "pointercancel") return;
    if (corners.length > 2) enclosed(corners);
    else if (travelled <= 4) open(rowAt(...spot(event))).catch(trouble);
  };
  for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, up);
  canvas.addEventListener("pointerleave", () => hover());
  canvas.addEventListener("blur", () => hover());
  canvas.addEventListener("keydown", key);
}

function key(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const far = 0.12 * Math.min(canvas.clientWidth, canvas.clientHeight) / view.zoom;
  const middle = [canvas.clientWidth / 2, canvas.clientHeight / 2], there = () => rowAt(...middle, Math.min(...middle));
  const acts = {
    ArrowLeft: () => move(-far, 0), ArrowRight: () => move(far, 0), ArrowUp: () => move(0, -far), ArrowDown: () => move(0, far),
    "+": () => zoom(1.6), "=": () => zoom(1.6), "-": () => zoom(1 / 1.6), 0: whole, l: list, Enter: () => open(there()).catch(trouble),
  };
  if (event.key === "Escape" && drawing) select(false);
  else if (event.key in acts) acts[event.key]();
  else return;
  event.preventDefault();
  event.stopPropagation();
  if (event.key !== "Enter" && event.key !== "l") {
    draw(true);
    hover(there(), ...middle, true);
  }
}

dark.addEventListener("change", () => {
  if (!canvas?.isConnected) return;
  ready();
  draw();
});
