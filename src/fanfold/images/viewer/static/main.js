// The page: which view the address names, the search box, and keys for all views.
import { ask, make, number, of, table } from "./api.js";
import { box, near, nearPicture } from "./near.js";
import { Grid } from "./grid.js";
import { duplicates, failures } from "./lists.js";
import { follow } from "./live.js";

const $ = (id) => document.getElementById(id);
export const main = $("main");
let grid, mine, first = true;

export const say = (text) => ($("status").textContent = text);
export const go = (hash) => (location.hash = hash);
const near_ = (row) => go(`near=${encodeURIComponent(row.key)}`);

// Put a view's elements into the page. `total` and `rows` make its grid.
export function place(title, parts, total, rows, known) {
  grid?.end();
  grid = undefined;
  main.scrollTop = 0;
  main.setAttribute("aria-label", title);
  document.title = `${title} - fanfold`;
  if (total === undefined || !total) return main.replaceChildren(...parts);
  grid = new Grid(main, title, near_);
  grid.failed = trouble;
  main.replaceChildren(...parts, grid.element);
  grid.show(total, rows, known);
}

export const empty = (...words) => make("p", { className: "empty" }, ...words);

export function trouble(error) {
  if (error.name === "AbortError" || error.status === 0 || error.status === 403) return; // live.js says it
  if (error.status === 410) return refresh();
  place("Something is wrong", [empty(error.message)]);
  say(error.message);
}

// Look at the newest version of the table, and show the view again.
export async function refresh() {
  try {
    const now = await ask("/api/table");
    Object.assign(table, now, { v: now.version });
    $("home").title = `${now.database}, table ${now.table}`;
    $("source").textContent = now.source || "a list of addresses";
    $("source").title = $("source").textContent;
    $("q").placeholder = "Part of a name";
    dispatchEvent(new Event("version"));
    await route();
  } catch (error) {
    trouble(error);
  }
}

async function everything() {
  const known = await of("/api/rows", { from: 0, count: 120 });
  if (!known.total) {
    say("No pictures");
    return place("Pictures", [empty("This table has no pictures yet. They appear here while ",
      make("code", {}, "fanfold images embed"), " adds them.")]);
  }
  place("Pictures", [], known.total, (from, count) => of("/api/rows", { from, count }).then((got) => got.rows), known.rows);
  say(`${number(known.total)} picture${known.total === 1 ? "" : "s"}`);
}

async function find(text) {
  const asked = { find: text };
  const known = await of("/api/rows", { ...asked, from: 0, count: 120 });
  const what = `${number(known.total)} picture${known.total === 1 ? "" : "s"} with “${text}” in the name`;
  say(what);
  if (!known.total) return place(text, [empty(`No picture's name contains “${text}”.`)]);
  const rows = (from, count) => of("/api/rows", { ...asked, from, count }).then((got) => got.rows);
  place(text, [make("div", { className: "lead" }, make("h2", {}, `“${text}”`), make("p", {}, what))], known.total, rows, known.rows);
}

async function route() {
  const asked = new URLSearchParams(location.hash.slice(1));
  const view = ["map", "duplicates", "failures"].find((name) => asked.has(name)) || "grid";
  for (const link of $("views").children) {
    if (link.dataset.view === view) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (document.activeElement !== $("q")) $("q").value = asked.get("q") || "";
  try {
    if (asked.has("near")) await near(asked.get("near"));
    else if (asked.has("picture") && mine) await nearPicture(mine);
    else if (asked.get("q")?.trim()) await find(asked.get("q").trim());
    else if (view === "duplicates") await duplicates(asked.get("duplicates"));
    else if (view === "failures") await failures(asked.get("failures"));
    else await everything();
  } catch (error) {
    trouble(error);
  }
  if (!first && document.activeElement === document.body) grid?.cellOf(grid.at)?.cell.focus({ preventScroll: true });
  first = false;
}

// A picture of one's own: the server answers with its neighbours, and keeps nothing.
async function search(file) {
  if (!file) return;
  mine = { file, name: file.name, address: URL.createObjectURL(file) };
  if (location.hash === "#picture") route();
  else go("picture");
}

$("search").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = $("q").value.trim();
  go(text ? `q=${encodeURIComponent(text)}` : "");
  main.focus();
});
$("pick").addEventListener("click", () => $("file").click());
$("file").addEventListener("change", () => {
  search($("file").files[0]);
  $("file").value = "";
});

let over = 0;
const isFile = (event) => [...event.dataTransfer.types].includes("Files");
addEventListener("dragenter", (event) => isFile(event) && document.body.classList.toggle("drop", ++over > 0));
addEventListener("dragleave", (event) => isFile(event) && document.body.classList.toggle("drop", --over > 0));
addEventListener("dragover", (event) => isFile(event) && event.preventDefault());
addEventListener("drop", (event) => {
  event.preventDefault();
  over = 0;
  document.body.classList.remove("drop");
  search(event.dataTransfer.files[0]);
});

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || box.open) return;
  const typing = event.target.matches("input, select");
  if (event.key === "Escape") typing ? main.focus() : location.hash.length > 1 && history.back();
  else if (typing) return;
  else if (event.key === "/") $("q").focus();
  else if (event.key === "m") go("map");
  else return;
  event.preventDefault();
});

addEventListener("hashchange", route);
refresh();
follow();
