// The page: which view the address names, the search box, and keys for all views.
import { ask, make, number, of, table } from "./api.js";
import { box, near, nearPicture } from "./near.js";
import { address, asked, show as filter } from "./filter.js";
import { Grid } from "./grid.js";
import { duplicates, failures } from "./lists.js";
import { follow } from "./live.js";

const $ = (id) => document.getElementById(id);
export const main = $("main");
let grid, mine, first = true;

export const say = (text) => ($("status").textContent = text);
export const go = (hash) => (location.hash = hash);
const near_ = (row) => go(address({ near: row.key }));

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
    $("q").placeholder = now.words ? "Words, or part of a name" : "Part of a name";
    dispatchEvent(new Event("version"));
    await route();
  } catch (error) {
    trouble(error);
  }
}

// All pictures, those that words find, or those with a text in their name; of these, those that meet the condition.
async function pictures(text, byName) {
  if (text && table.words && !byName) {
    const { why } = await of("/api/words", { q: text });
    return why ? listed(text, { find: text }, why) : listed(text, { words: text });
  }
  return listed(text, text ? { find: text } : {});
}

async function listed(text, kind, note) {
  const question = { ...kind, ...asked() };
  const known = await of("/api/rows", { ...question, from: 0, count: 120 });
  if (!table.rows) {
    say("No pictures");
    return place("Pictures", [empty("This table has no pictures yet. They appear here while ",
      make("code", {}, "fanfold images embed"), " adds them.")]);
  }
  const where = question.where ? ` where ${question.where}` : "";
  const found = kind.words ? ` for “${text}”` : text ? ` with “${text}” in the name` : "";
  const what = `${number(known.total)} picture${known.total === 1 ? "" : "s"}${found}${where}`;
  say(what);
  const lead = text ? [make("div", { className: "lead" }, make("h2", {}, `“${text}”`), make("p", {}, understood(known) || what),
    kind.words ? make("a", { href: `#${address({ name: text })}` }, "Search names instead") : null)] : [];
  if (note) lead.push(make("p", { className: "soft lead" }, note));
  if (!known.total) return place(text || "Pictures", [...lead, empty(kind.words ? `No picture shows “${text}”${where}, as far as the model knows.`
    : text ? `No picture's name contains “${text}”${where}.` : `No picture is there${where}.`)]);
  const rows = (from, count) => of("/api/rows", { ...question, from, count }).then((got) => got.rows);
  place(text || "Pictures", lead, known.total, rows, known.rows);
}

const understood = ({ about, total }) => about?.understood?.length ? `understood as: ${about.understood.join(" and ")}; ${number(total)} pictures` : "";

async function route() {
  const state = new URLSearchParams(location.hash.slice(1));
  const view = ["duplicates", "failures"].find((name) => state.has(name)) || "grid";
  for (const link of $("views").children) {
    if (link.dataset.view === view) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (document.activeElement !== $("q")) $("q").value = state.get("q") || state.get("name") || "";
  try {
    filter().catch(trouble);
    if (state.has("near")) await near(state.get("near"));
    else if (state.has("picture") && mine) await nearPicture(mine);
    else if (view === "duplicates") await duplicates(state.get("duplicates"));
    else if (view === "failures") await failures(state.get("failures"));
    else await pictures((state.get("q") || state.get("name") || "").trim(), state.has("name"));
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
  go(address(text ? { q: text } : {}));
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
  else return;
  event.preventDefault();
});

addEventListener("hashchange", route);
refresh();
follow();
