// Which pictures are meant: a condition on the columns, typed or of a frequent value; a label.
import { make, number, of, table } from "./api.js";

const panel = document.getElementById("filter"), input = document.getElementById("where");
const button = document.getElementById("open-filter"), chips = document.getElementById("facets");
let shown = "";

// What the address says, and an address for other parts.
export const state = () => new URLSearchParams(location.hash.slice(1));
export const hash = (parts) => Object.entries(parts).filter(([, value]) => value !== null && value !== undefined)
  .map(([name, value]) => (value === "" ? name : `${name}=${encodeURIComponent(value)}`)).join("&");

// The filter; and an address that keeps it.
export const asked = () => Object.fromEntries([...state()].filter(([name, value]) => ["where", "label"].includes(name) && value.trim()));
export const address = (parts) => hash({ ...parts, ...asked() });
export const set = (changes) => (location.hash = hash({ ...Object.fromEntries(state()), ...changes }));

// As the address says. The panel stays open while one filters.
export async function show() {
  const { where = "", label } = asked();
  button.setAttribute("aria-pressed", String(Boolean(where || label)));
  if (document.activeElement !== input) input.value = where;
  if ((where || label) && !state().has("map")) panel.hidden = false;
  button.setAttribute("aria-expanded", String(!panel.hidden));
  if (panel.hidden || shown === table.v) return mark();
  const { facets, columns, v } = await of("/api/facets");
  shown = v;
  input.title = columns.join("\n");
  chips.replaceChildren(...facets.map((facet) => make("div", { className: "chips", role: "group", "aria-label": facet.name },
    make("span", { className: "soft" }, facet.name), ...facet.values.map((one) => chip(one)))));
  mark();
}

// A value to filter by, as a button; `parts` come before its name.
export function chip(one, ...parts) {
  const name = one.label === undefined ? "where" : "label";
  const made = make("button", { type: "button", onclick: () => set({ [name]: asked()[name] === one[name] ? null : one[name] }) },
    ...parts, one.value, make("span", { className: "count" }, ` ${number(one.count)}`));
  made.pressed = () => asked()[name] === one[name];
  return made;
}

export function mark(all = chips) {
  for (const one of all.querySelectorAll("button")) one.setAttribute("aria-pressed", String(one.pressed()));
}

button.addEventListener("click", () => {
  panel.hidden = !panel.hidden;
  if (panel.hidden) set({ where: null, label: null });
  show().then(() => panel.hidden || input.focus());
});
panel.addEventListener("submit", (event) => {
  event.preventDefault();
  set({ where: input.value.trim() || null });
});
