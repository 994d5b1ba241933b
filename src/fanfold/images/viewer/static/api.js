// Questions to the server. Every answer is of one version of the table, which the page names.

export class Problem extends Error {
  constructor(message, status) {
    super(message);
    this.status = status; // 0: no answer at all
  }
}

export const table = { v: "", rows: 0, database: "", source: "" };

// What a view has asked for is of no use once another one is shown.
let leaving = new AbortController();
export function leave() {
  leaving.abort();
  leaving = new AbortController();
}

export async function ask(path, asked = {}, options = {}) {
  const query = new URLSearchParams(asked);
  let answer;
  try {
    answer = await fetch(`${path}?${query}`, { signal: leaving.signal, ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem("The server does not answer.", 0);
  }
  if (answer.ok && options.raw) return answer.arrayBuffer();
  const content = await answer.json().catch((error) => {
    if (error.name === "AbortError") throw error;
    return {};
  });
  if (!answer.ok) throw new Problem(content.error || `The server answered ${answer.status}.`, answer.status);
  return content;
}

export const of = (path, asked, options) => ask(path, { v: table.v, ...asked }, options);
export const post = (path, asked, body, options) =>
  ask(path, asked, { method: "POST", headers: { "X-Fanfold": "1" }, body, ...options });
export const thumb = (row) => `/thumb/${row}?v=${table.v}`;
export const middle = (row) => `/middle/${row}?v=${table.v}`;
export const picture = (row) => `/picture/${row}?v=${table.v}`;

// An element with properties and children; text is always text.
export function make(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name in made && !name.startsWith("aria")) made[name] = value;
    else made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

// What a picture is called for those who do not see it.
export const alt = ({ key, label, labels }) => [key, label || labels].filter(Boolean).join(", ");

export const number = (value) => value.toLocaleString("en");

export function bytes(count) {
  for (const unit of ["bytes", "kB", "MB", "GB"]) {
    if (count < 1000 || unit === "GB") return `${unit === "bytes" ? count : count.toFixed(count < 10 ? 1 : 0)} ${unit}`;
    count /= 1000;
  }
}

// Show a picture, or why there is none, in `frame`.
export function load(image, address, frame, name) {
  frame.querySelector(".why")?.remove();
  image.hidden = false;
  image.className = "wait";
  image.alt = name;
  image.onload = () => (image.className = "");
  image.onerror = async () => {
    if (image.getAttribute("src") !== address) return;
    image.hidden = true;
    const why = await ask(address.split("?")[0], new URLSearchParams(address.split("?")[1])).then(() => "", (e) => e.message);
    if (image.getAttribute("src") !== address) return;
    frame.querySelector(".why")?.remove();
    frame.append(make("span", { className: "why" }, `${name}: ${why || "it cannot be shown"}`));
  };
  image.src = address;
}
