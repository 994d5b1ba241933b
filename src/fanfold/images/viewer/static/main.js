// The page: which view the address names, the search box, and keys for all views.
import { ask, leave, make, number, of, table } from "./api.js";
import { box, near, nearPicture } from "./near.js";
import { address, asked, hash, show as filter, state } from "./filter.js";
import { Grid } from "./grid.js";
import { duplicates, failures } from "./lists.js";
import { follow } from "./live.js";
import { map } from "./map.js";

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
    const now = await ask("/api/table", {}, { signal: null });
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

// What an address asks for, as a question and in words: all pictures, those that words find, or those with a text in their
// name; of these, those in an area of the map that meet the filter.
async function meant(now) {
  const text = (now.get("q") || now.get("name") || "").trim(), area = now.get("area"), { label, where } = asked();
  const words = text && table.words && !now.has("name");
  const note = words ? (await of("/api/words", { q: text })).why : undefined;
  const kind = !text ? {} : words && !note ? { words: text } : { find: text };
  const says = [kind.words ? `for “${text}”` : text && `with “${text}” in the name`, area && "in an area of the map",
    label && `of “${label}”`, where && `where ${where}`];
  return { text, note, question: { ...kind, ...(area && { area }), ...asked() }, says: says.filter(Boolean).map((one) => ` ${one}`).join("") };
}

async function pictures({ text, note, question, says }) {
  const known = await of("/api/rows", { ...question, from: 0, count: 120 });
  if (!table.rows) {
    say("No pictures");
    return place("Pictures", [empty("This table has no pictures yet. They appear here while ",
      make("code", {}, "fanfold images embed"), " adds them.")]);
  }
  const what = `${number(known.total)} picture${known.total === 1 ? "" : "s"}${says}`;
  say(what);
  const lead = text || question.area ? [make("div", { className: "lead" }, make("h2", {}, text ? `“${text}”` : "An area of the map"),
    make("p", {}, understood(known) || what), question.words ? make("a", { href: `#${address({ name: text })}` }, "Search names instead") : null)] : [];
  if (note) lead.push(make("p", { className: "soft lead" }, note));
  if (!known.total) return place(text || "Pictures", [...lead, empty(question.words
    ? `No picture shows “${text}”${says.replace(` for “${text}”`, "")}, as far as the model knows.`
    : text ? `No picture's name contains “${text}”${says.replace(` with “${text}” in the name`, "")}.` : `No picture is there${says}.`)]);
  const rows = (from, count) => of("/api/rows", { ...question, from, count }).then((got) => got.rows);
  place(text || "Pictures", lead, known.total, rows, known.rows);
}

const understood = ({ about, total }) => about?.understood?.length ? `understood as: ${about.understood.join(" and ")}; ${number(total)} pictures` : "";

async function route() {
  leave();
  const now = state(), view = ["map", "duplicates", "failures"].find((name) => now.has(name)) || "grid";
  const same = Object.fromEntries([...now].filter(([name]) => ["q", "name", "where", "label", "area", "near"].includes(name)));
  for (const link of $("views").children) {
    if (link.dataset.view === view) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
    if (link.dataset.view === "map") link.href = `#${hash({ map: "", ...same })}`; // the same pictures, there
  }
  if (document.activeElement !== $("q")) $("q").value = now.get("q") || now.get("name") || "";
  try {
    filter().catch(trouble);
    if (view === "map") await map(now.has("near") ? { key: now.get("near"), says: ` like ${now.get("near")}` } : await meant(now));
    else if (now.has("near")) await near(now.get("near"));
    else if (now.has("picture") && mine) await nearPicture(mine);
    else if (view === "duplicates") await duplicates(now.get("duplicates"));
    else if (view === "failures") await failures(now.get("failures"));
    else await pictures(await meant(now));
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
  go(address({ ...(state().has("map") && { map: "" }), ...(text && { q: text }) }));
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
  else if (event.key === "m") $("views").querySelector("[data-view=map]").click();
  else return;
  event.preventDefault();
});

addEventListener("hashchange", route);
refresh();
follow();
