// Which pictures are meant: a condition on the columns, typed or put together from frequent values.
import { make, number, of, table } from "./api.js";

const panel = document.getElementById("filter"), input = document.getElementById("where");
const button = document.getElementById("open-filter"), chips = document.getElementById("facets");
let shown = "";

export const where = () => new URLSearchParams(location.hash.slice(1)).get("where")?.trim() || "";
export const asked = () => (where() ? { where: where() } : {});

// An address for these parameters that keeps the condition.
export function address(parts) {
  const condition = where();
  const all = Object.entries(condition ? { ...parts, where: condition } : parts);
  return all.map(([name, value]) => (value === "" ? name : `${name}=${encodeURIComponent(value)}`)).join("&");
}

function set(condition) {
  const now = new URLSearchParams(location.hash.slice(1));
  const parts = [...now].filter(([name]) => name !== "where");
  if (condition) parts.push(["where", condition]);
  location.hash = parts.map(([name, value]) => (value === "" ? name : `${name}=${encodeURIComponent(value)}`)).join("&");
}

// As the address says. The panel stays open while one filters.
export async function show() {
  const condition = where();
  button.setAttribute("aria-pressed", String(Boolean(condition)));
  if (document.activeElement !== input) input.value = condition;
  if (condition) panel.hidden = false;
  button.setAttribute("aria-expanded", String(!panel.hidden));
  if (panel.hidden || shown === table.v) return mark(condition);
  shown = table.v;
  const { facets, columns } = await of("/api/facets");
  input.title = columns.join("\n");
  chips.replaceChildren(...facets.map((facet) => make("div", { className: "chips", role: "group", "aria-label": facet.name },
    make("span", { className: "soft" }, facet.name), ...facet.values.map((one) => chip(one)))));
  mark(where());
}

function chip(one) {
  const made = make("button", { type: "button", onclick: () => set(where() === one.where ? "" : one.where) },
    one.value, make("span", { className: "count" }, ` ${number(one.count)}`));
  made.dataset.where = one.where;
  return made;
}

function mark(condition) {
  for (const one of chips.querySelectorAll("button")) one.setAttribute("aria-pressed", String(one.dataset.where === condition));
}

button.addEventListener("click", () => {
  panel.hidden = !panel.hidden;
  if (panel.hidden) set("");
  show().then(() => panel.hidden || input.focus());
});
panel.addEventListener("submit", (event) => {
  event.preventDefault();
  set(input.value.trim());
});
