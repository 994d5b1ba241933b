// A grid of any number of pictures, with as many elements as are in view. Far down, a pixel of scrolling is several
// of the grid: no browser has elements of 30 million pixels.
import { alt, load, make, thumb } from "./api.js";

const GAP = 12, NAME = 24, TALLEST = 10_000_000, BLOCK = 120, BLOCKS = 100, MOST = 190;

export class Grid {
  constructor(scroller, label, open) {
    this.scroller = scroller;
    this.open = open;
    this.at = 0;
    this.slots = [];
    this.element = make("div", {
      className: "grid", role: "grid", "aria-label": label, tabIndex: -1, onkeydown: (event) => this.key(event),
      onclick: (event) => this.click(event),
    });
    this.onscroll = () => this.draw();
    this.sizes = new ResizeObserver(() => this.resize());
  }

  // `rows(from, count)` gives a promise of [{row, key, score}]; `first`: those that are known already.
  show(total, rows, first = []) {
    this.total = total;
    this.rows = rows;
    this.blocks = new Map();
    if (first.length) this.blocks.set(0, first);
    this.scroller.addEventListener("scroll", this.onscroll, { passive: true });
    this.sizes.observe(this.scroller);
    this.resize();
  }

  end() {
    this.scroller.removeEventListener("scroll", this.onscroll);
    this.sizes.disconnect();
    this.ended = true;
  }

  resize() {
    const width = this.element.clientWidth, height = this.scroller.clientHeight;
    if (!width) return;
    const kept = this.slots.length ? Math.max(0, Math.floor(this.place()[1] / this.high)) * this.columns : 0;
    let least = width < 520 ? 104 : 148;
    do {
      this.columns = Math.max(1, Math.floor((width + GAP) / (least + GAP)));
      this.tile = (width - GAP * (this.columns - 1)) / this.columns;
      this.high = this.tile + NAME + GAP;
      this.seen = Math.ceil(height / this.high) + 1;
      least *= 1.1;
    } while (this.columns * (this.seen + 1) > MOST && this.columns > 1);
    const sizes = `${width} ${height} ${this.columns}`;
    if (this.sized === sizes) return this.draw();
    this.sized = sizes;
    const focused = this.element.contains(document.activeElement);
    this.lines = Math.ceil(this.total / this.columns);
    this.full = this.lines * this.high;
    this.element.style.height = `${Math.min(this.full, TALLEST)}px`;
    this.element.setAttribute("aria-rowcount", this.lines);
    this.element.setAttribute("aria-colcount", this.columns);
    this.element.replaceChildren();
    this.slots = Array.from({ length: Math.min(this.seen + 1, this.lines) }, () => this.slot());
    if (kept) this.reach(Math.floor(kept / this.columns) * this.high);
    this.draw();
    if (focused) (this.cellOf(this.at)?.cell || this.element).focus({ preventScroll: true });
  }

  // Scroll so that the view begins at this place of the grid at its full height.
  reach(wanted) {
    const top = this.full <= TALLEST ? wanted : (wanted / (this.full - this.scroller.clientHeight)) * (TALLEST - this.scroller.clientHeight);
    this.scroller.scrollTop = this.element.offsetTop + top;
  }

  slot() {
    const cells = Array.from({ length: this.columns }, () => {
      const image = make("img", { alt: "", decoding: "async", draggable: false });
      const frame = make("span", { className: "thumb" }, image);
      const name = make("span", { className: "name", "aria-hidden": "true" });
      const score = make("span", { className: "score" });
      const cell = make("div", { className: "cell", role: "gridcell", tabIndex: -1 }, frame, score, name);
      return { cell, image, frame, name, score, index: -1, row: undefined };
    });
    const element = make("div", { className: "row", role: "row" }, ...cells.map((one) => one.cell));
    element.style.gridTemplateColumns = `repeat(${this.columns}, 1fr)`;
    element.style.columnGap = `${GAP}px`;
    this.element.append(element);
    return { element, cells, line: -1 };
  }

  // Where the view begins: in the scroller, and in the grid at its full height.
  place() {
    const top = this.scroller.scrollTop - this.element.offsetTop, view = this.scroller.clientHeight;
    if (this.full <= TALLEST) return [top, top];
    return [top, (Math.min(1, Math.max(0, top / (TALLEST - view))) * (this.full - view))];
  }

  draw() {
    if (this.ended || !this.slots.length) return;
    const [top, begin] = this.place();
    const first = Math.max(0, Math.floor(begin / this.high));
    const last = Math.min(this.lines - 1, first + this.slots.length - 1);
    const missing = new Set();
    for (let line = first; line <= last; line++) {
      const slot = this.slots[line % this.slots.length];
      slot.element.style.transform = `translateY(${top - begin + line * this.high}px)`;
      slot.element.hidden = false;
      slot.line = line;
      slot.element.setAttribute("aria-rowindex", line + 1);
      slot.cells.forEach((one, column) => this.fill(one, line * this.columns + column, missing));
    }
    for (const slot of this.slots) if (slot.line < first || slot.line > last) slot.element.hidden = true;
    const [from, to] = [first * this.columns, (last + 1) * this.columns - 1];
    if (!this.element.contains(document.activeElement)) this.at = Math.min(Math.max(this.at, from), to, this.total - 1);
    this.rove();
    if (missing.size) this.fetch(missing);
  }

  fill(one, index, missing) {
    const row = index < this.total ? this.known(index, missing) : null;
    if (one.index === index && one.row === row) return;
    if (one.index !== index && one.cell === document.activeElement) this.element.focus({ preventScroll: true });
    Object.assign(one, { index, row });
    one.cell.hidden = index >= this.total;
    one.cell.setAttribute("aria-colindex", (index % this.columns) + 1);
    one.name.textContent = row ? row.key : "";
    one.name.title = row ? row.key : "";
    one.score.hidden = row?.score === undefined;
    one.score.textContent = row?.score?.toFixed(2) ?? "";
    if (row) load(one.image, thumb(row.row), one.frame, alt(row));
    else {
      one.image.removeAttribute("src");
      one.image.alt = "";
      one.image.className = "wait";
      one.frame.querySelector(".why")?.remove();
    }
  }

  known(index, missing) {
    const number = Math.floor(index / BLOCK), block = this.blocks.get(number);
    if (!block) missing.add(number);
    return block?.[index % BLOCK];
  }

  fetch(missing) {
    this.missing = missing;
    this.timer ??= setTimeout(async () => {
      this.timer = undefined;
      for (const number of this.missing) {
        this.loading ??= new Set();
        if (this.loading.has(number)) continue;
        this.loading.add(number);
        const blocks = this.blocks;
        this.rows(number * BLOCK, BLOCK)
          .then((rows) => {
            blocks.set(number, rows);
            if (blocks.size > BLOCKS) blocks.delete(blocks.keys().next().value);
            this.draw();
          }, (error) => this.failed?.(error))
          .finally(() => this.loading.delete(number));
      }
    }, 40);
  }

  rove() {
    for (const slot of this.slots) {
      for (const one of slot.cells) one.cell.tabIndex = one.index === this.at && !slot.element.hidden ? 0 : -1;
    }
  }

  cellOf(index) {
    const line = Math.floor(index / this.columns), slot = this.slots[line % this.slots.length];
    return slot?.line === line ? slot.cells[index % this.columns] : undefined;
  }

  focus(index) {
    this.at = Math.min(Math.max(0, index), this.total - 1);
    const line = Math.floor(this.at / this.columns), view = this.scroller.clientHeight;
    const [, begin] = this.place();
    let wanted = begin;
    if (line * this.high < begin) wanted = line * this.high - GAP;
    else if ((line + 1) * this.high > begin + view) wanted = (line + 1) * this.high - view + GAP;
    if (wanted !== begin) {
      this.reach(wanted);
      this.draw();
    }
    this.rove();
    this.cellOf(this.at)?.cell.focus({ preventScroll: true });
  }

  key(event) {
    const page = this.columns * Math.max(1, this.seen - 2), column = this.at % this.columns;
    const far = event.ctrlKey || event.metaKey;
    const moves = {
      ArrowRight: 1, ArrowLeft: -1, ArrowDown: this.columns, ArrowUp: -this.columns, PageDown: page, PageUp: -page,
      Home: far ? -this.at : -column, End: far ? this.total : this.columns - 1 - column,
    };
    if (["Enter", " ", "s"].includes(event.key) && !far) this.choose(this.at);
    else if (event.key in moves && !event.altKey) this.focus(this.at + moves[event.key]);
    else return;
    event.preventDefault();
  }

  click(event) {
    const cell = event.target.closest(".cell");
    for (const slot of this.slots) for (const one of slot.cells) if (one.cell === cell) this.choose(one.index);
  }

  choose(index) {
    const row = this.known(index, new Set());
    this.at = index;
    if (row) this.open(row);
  }
}
