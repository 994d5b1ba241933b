// Near-duplicates in groups, and failures with their reasons.
import { alt, bytes, load, make, number, of, ask, post, table, thumb } from "./api.js";
import { empty, go, place, say, trouble } from "./main.js";
import { compare } from "./near.js";

const LEVELS = ["0.9", "0.95", "0.98", "0.99"];
let waiting;

export async function duplicates(level) {
  const threshold = LEVELS.includes(level) ? level : "0.95";
  clearTimeout(waiting);
  const choice = make("select", { "aria-label": "Lowest cosine", onchange: () => go(`duplicates=${choice.value}`) },
    ...LEVELS.map((one) => make("option", { value: one, selected: one === threshold }, `cosine ${one} or more`)));
  const lead = make("div", { className: "lead" }, make("h2", {}, "Near-duplicates"), choice);
  const answer = await of("/api/duplicates", { threshold });
  if (answer.takes !== undefined) return offer(lead, threshold, answer.takes);
  if (answer.fraction !== undefined) return progress(lead, threshold, answer.fraction);
  const groups = `${number(answer.total)} group${answer.total === 1 ? "" : "s"} of near-duplicates`;
  say(groups);
  if (!answer.total) return place("Near-duplicates", [lead, empty(`No two pictures have a cosine of ${threshold} or more.`)]);
  lead.append(make("p", {}, groups));
  const list = make("div", {}, ...answer.groups.map(group));
  place("Near-duplicates", [lead, list, more(answer, async (page) => {
    const next = await of("/api/duplicates", { threshold, page });
    list.append(...next.groups.map(group));
  })]);
}

function offer(lead, threshold, seconds) {
  const takes = seconds < 90 ? `${seconds} seconds` : `${Math.round(seconds / 60)} minutes`;
  const begin = () => post("/api/duplicates", { threshold, v: table.v }).then(() => duplicates(threshold), trouble);
  say("Not compared yet");
  place("Near-duplicates", [lead, empty(`Comparing ${number(table.rows)} pictures takes about ${takes}. `,
    make("button", { className: "main", onclick: begin }, "Compare them"))]);
}

function progress(lead, threshold, fraction) {
  say("Comparing …");
  place("Near-duplicates", [lead, empty("Comparing … ", make("progress", { value: fraction, "aria-label": "Comparing" }))]);
  waiting = setTimeout(() => location.hash.startsWith("#duplicates") && duplicates(threshold).catch(trouble), 700);
}

function group({ least, rows }) {
  const head = make("div", { className: "lead" }, make("h3", {}, `${number(rows.length)} pictures`), make("p", {}, `cosine ${least.toFixed(3)} or more`));
  if (rows.length > 1) head.append(make("button", { onclick: () => compare(rows[0], rows[1]) }, rows.length > 2 ? "Compare the first two" : "Compare"));
  const most = Math.max(...rows.map((row) => (row.width || 0) * (row.height || 0)));
  return make("section", { className: "group" }, head, make("div", { className: "tiles" }, ...rows.slice(0, 60).map((row) => tile(row, rows, most))));
}

function tile(row, rows, most) {
  const image = make("img", { loading: "lazy" }), frame = make("span", { className: "thumb" }, image);
  load(image, thumb(row.row), frame, alt(row));
  const size = row.width ? `${number(row.width)} × ${number(row.height)}` : "";
  const largest = rows.some((one) => one.width * one.height < most) && row.width * row.height === most ? ", largest" : "";
  return make("a", { className: "tile", href: `#near=${encodeURIComponent(row.key)}` }, frame,
    make("span", { className: "name", "aria-hidden": "true" }, row.key),
    make("small", {}, [size + largest, row.bytes && bytes(row.bytes)].filter(Boolean).join(" · ")));
}

function more({ total, size }, fetch) {
  let page = 0;
  const button = make("button", { className: "more", hidden: total <= size, onclick: async () => {
    button.disabled = true;
    await fetch(++page).catch(trouble);
    button.disabled = false;
    button.hidden = (page + 1) * size >= total;
  } }, "Show more");
  return button;
}

export async function failures(stage) {
  const asked = stage ? { stage } : {};
  const answer = await ask("/api/failures", asked);
  const all = Object.values(answer.stages).reduce((sum, count) => sum + count, 0);
  const lead = make("div", { className: "lead" }, make("h2", {}, "Failures"));
  say(`${number(answer.total)} failure${answer.total === 1 ? "" : "s"}`);
  if (!all) return place("Failures", [lead, empty("No picture has failed. Each picture that was listed is in the table.")]);
  const chips = Object.entries({ "": all, ...answer.stages }).map(([name, count]) =>
    make("button", { "aria-pressed": String((stage || "") === name), onclick: () => go(name ? `failures=${encodeURIComponent(name)}` : "failures") },
      `${name || "all"} ${number(count)}`));
  lead.append(make("div", { className: "chips", role: "group", "aria-label": "Stage" }, ...chips));
  const line = (row) => make("tr", {}, make("td", {}, row.key), make("td", { className: "tight" }, row.stage), make("td", {}, row.message),
    make("td", { className: "tight when" }, new Date(row.when).toLocaleString()));
  const body = make("tbody", {}, ...answer.rows.map(line));
  const head = ["Picture", "Stage", "Reason", "When"].map((name) => make("th", { scope: "col", className: name.toLowerCase() }, name));
  place("Failures", [lead, make("table", {}, make("thead", {}, make("tr", {}, ...head)), body), more(answer, async (page) => {
    body.append(...(await ask("/api/failures", { ...asked, page })).rows.map(line));
  })]);
}
