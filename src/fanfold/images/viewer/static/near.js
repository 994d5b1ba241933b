// A picture, its facts, and the pictures most like it; the way from one to the next; pictures in full.
import { alt, bytes, load, make, middle, number, of, picture, post, Problem, table, thumb } from "./api.js";
import { asked } from "./filter.js";
import { empty, place, say } from "./main.js";

const MOST_BYTES = 32 << 20, NEIGHBOURS = 60;
export const box = document.getElementById("box");
let trail = [];

// The facts of a row in the order in which they are read; those that this page does not know come last.
const KNOWN = {
  "looks like": (row) => row.labels,
  size: (row) => row.width && `${number(row.width)} × ${number(row.height)} px${row.truncated ? ", some of them missing" : ""}`,
  file: (row) => [row.format, row.bytes && bytes(row.bytes)].filter(Boolean).join(", "),
  added: (row) => row.created && new Date(row.created).toLocaleString(),
  from: (row) => row.uri && plain(row.uri),
};
const TOLD = ["v", "row", "key", "version", "width", "height", "bytes", "format", "truncated", "created", "uri", "labels"];

function plain(uri) {
  try {
    return uri.startsWith("file://") ? decodeURIComponent(uri.slice(7)) : uri;
  } catch {
    return uri; // a name that is not UTF-8
  }
}

function facts(row) {
  const known = Object.entries(KNOWN).map(([name, of]) => [name, of(row)]);
  const others = Object.entries(row).filter(([name, value]) => !TOLD.includes(name) && value !== null);
  const shown = [...known, ...others].filter(([, value]) => value !== undefined && value !== "" && value !== null);
  return make("dl", {}, ...shown.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, String(value))]));
}

// The pictures that one has come by. Going back to one of them makes the way shorter.
function way(step) {
  const at = trail.findIndex((one) => one.hash === step.hash);
  trail = at < 0 ? [...trail, step].slice(-12) : trail.slice(0, at + 1);
  if (trail.length < 2) return null;
  const steps = trail.map((one, index) => {
    const image = make("img", { src: one.row === undefined ? one.address : thumb(one.row), alt: one.name });
    const last = index === trail.length - 1;
    return make("li", {}, last ? make("b", { "aria-current": "page", title: one.name }, image)
      : make("a", { href: `#${one.hash}`, title: one.name }, image));
  });
  return make("nav", { "aria-label": "The way here" }, make("ol", { className: "trail" }, ...steps));
}

function card(name, words, address, full, about) {
  const image = make("img", {}), frame = make("button", { className: "large", "aria-label": `Show ${name} in full` }, image);
  load(image, address, frame, words);
  frame.addEventListener("click", () => !image.hidden && show(name, words, full));
  return make("section", { className: "card", "aria-label": "The picture" }, frame, make("div", { className: "about" }, make("h2", {}, name), about));
}

function found(title, parts, rows) {
  const list = rows.length ? make("h3", {}, "Most alike, with their cosines") : empty("There are no other pictures.");
  list.classList.add("lead");
  if (table.index) {
    parts.push(make("p", { className: "soft" }, `A search compares all ${number(table.rows)} vectors, which takes a while. An index makes it quick, after ${table.index.takes}: `,
      make("code", {}, table.index.type)));
  }
  place(title, [...parts.filter(Boolean), list], rows.length, null, rows);
  say(`${number(rows.length)} pictures like ${title}, the most alike first`);
}

export async function near(key) {
  const row = await of("/api/row", { key }).catch((error) => {
    if (error.status !== 404) throw error;
  });
  if (!row) {
    say("This picture is not in the table");
    return place(key, [empty("The table has no picture called ", make("code", {}, key), ".")]);
  }
  const { rows } = await of("/api/near", { row: row.row, k: NEIGHBOURS, ...asked() });
  const step = { hash: `near=${encodeURIComponent(key)}`, name: key, row: row.row };
  found(key, [way(step), card(key, alt(row), middle(row.row), picture(row.row), facts(row))], rows);
}

export async function nearPicture(mine) {
  if (mine.file.size > MOST_BYTES) throw new Problem(`${mine.name} is too large: a picture to search with may have 32 MB.`, 413);
  say(`Looking at ${mine.name} …`);
  place(mine.name, [empty(`Looking at ${mine.name} …`)]);
  const { rows, v } = await post("/api/near", { k: NEIGHBOURS }, mine.file);
  table.v = v;
  const about = make("p", { className: "soft" }, `Your picture, ${bytes(mine.file.size)}. It was compared, and not kept.`);
  const step = { hash: "picture", name: mine.name, address: mine.address };
  found(mine.name, [way(step), card(mine.name, mine.name, mine.address, mine.address, about)], rows);
}

export const forget = () => (trail = []);

// -- in full --

function open(title, ...content) {
  const close = make("button", { onclick: () => box.close() }, "Close");
  box.setAttribute("aria-label", title);
  box.replaceChildren(make("div", { className: "bar" }, make("p", {}, title), ...content.splice(0, content.length - 1), close), ...content);
  box.showModal();
}

export function show(name, words, address) {
  const image = make("img"), stage = make("div", { className: "stage" }, image);
  load(image, address, stage, words);
  open(name, make("a", { href: address, target: "_blank", rel: "noopener" }, "Open alone"), stage);
}

// Two pictures on top of each other, with a border to move between them.
export function compare(one, two) {
  const [below, above] = [one, two].map((row) => {
    return make("img", { alt: alt(row), src: picture(row.row) });
  });
  const cut = () => (above.style.clipPath = `inset(0 0 0 ${border.value}%)`);
  const border = make("input", { type: "range", min: 0, max: 100, value: 50, "aria-label": "Border between the two", oninput: cut });
  cut();
  const stage = make("div", { className: "stage pair" }, below, above);
  open(`${one.key} | ${two.key}`, make("button", { onclick: () => { box.close(); compare(two, one); } }, "Swap"),
    make("div", {}, stage, border));
}

box.addEventListener("click", (event) => event.target === box && box.close());
