// What happens while the page is open: new pictures, a run under way, a server that stops and comes back.
import { make, number, table } from "./api.js";
import { refresh } from "./main.js";

const news = document.getElementById("news"), views = document.getElementById("views");
let source, retry, last, lost = false;

export function follow() {
  document.addEventListener("visibilitychange", () => (document.hidden ? close() : connect()));
  addEventListener("version", () => last && changed(last));
  addEventListener("pagehide", close); // a browser has six connections to a server, for all of its pages
  connect();
}

function close() {
  clearTimeout(retry);
  source?.close();
  source = undefined;
}

function connect() {
  if (source || document.hidden) return;
  source = new EventSource("/events");
  source.onmessage = (event) => heard(JSON.parse(event.data));
  source.onerror = async () => {
    close();
    const answer = await fetch("/api/table").catch(() => null);
    if (answer?.status === 403) part("lost", "bad", "This page's server was started again. Open the address that it printed; this page then goes on.");
    else if (!answer) part("lost", "bad", "The server has stopped. To go on, type: ", make("code", {}, `fanfold images view ${table.database || "DATABASE"}`));
    lost ||= !answer?.ok;
    retry = setTimeout(connect, 2000);
  };
}

function heard(state) {
  if (lost) {
    lost = false;
    refresh();
  }
  part("lost");
  if (state.error) return part("error", "bad", state.error);
  part("error");
  last = state;
  count("grid", state.rows);
  count("failures", state.failures);
  changed(state);
  run(state.run);
}

function changed(state) {
  if (!table.v || state.version === table.v) return part("new");
  const more = state.rows - table.rows;
  if (!table.rows && more) return refresh();
  const what = more > 0 ? `${number(more)} new picture${more === 1 ? "" : "s"}` : "The table has changed";
  const same = document.getElementById("new");
  if (same) return (same.firstChild.textContent = what);
  part("new", "", make("span", {}, what), make("button", { className: "main", onclick: refresh }, "Show"));
}

function run(state) {
  if (!state) return part("run");
  const done = state.ok + state.failed, planned = state.planned;
  const words = planned === null ? `A run is listing its source: ${number(done)} pictures done`
    : `A run is under way: ${number(done)} of ${number(planned)} pictures${state.failed ? `, ${number(state.failed)} failed` : ""}`;
  part("run", "", words, make("progress", planned ? { value: done / planned, "aria-label": "Progress of the run" } : { "aria-label": "Progress of the run" }));
}

// A line of news, by its name; without content it goes.
function part(name, kind, ...content) {
  const old = document.getElementById(name);
  if (!content.length) return old?.remove();
  const made = make("div", { id: name, className: kind }, ...content);
  old ? old.replaceWith(made) : news.append(made);
}

function count(view, value) {
  const link = views.querySelector(`[data-view=${view}]`);
  const shown = link.querySelector(".count") || link.appendChild(make("span", { className: "count" }));
  shown.textContent = value ? ` ${number(value)}` : "";
}
