// Points of the map, in the order of the cells that they lie in: what is in view then lies in few stretches of memory.
const SIDE = 65536, CELLS = 256, NOWHERE = SIDE - 1;

export class Points {
  // `places`: x and y of every row of the table. `has(row)` says which of them are meant; without it, all.
  constructor(places, has) {
    const cell = (row) => (places[2 * row + 1] >> 8) * CELLS + (places[2 * row] >> 8);
    const meant = (row) => places[2 * row] !== NOWHERE && (!has || has(row)), rows = places.length / 2;
    this.starts = new Uint32Array(CELLS * CELLS + 1);
    for (let row = 0; row < rows; row++) if (meant(row)) this.starts[cell(row) + 1]++;
    for (let at = 0; at < CELLS * CELLS; at++) this.starts[at + 1] += this.starts[at];
    this.count = this.starts[CELLS * CELLS];
    [this.x, this.y, this.rows] = [new Uint16Array(this.count), new Uint16Array(this.count), new Uint32Array(this.count)];
    const next = this.starts.slice();
    for (let row = 0; row < rows; row++) {
      if (!meant(row)) continue;
      const at = next[cell(row)]++;
      this.x[at] = places[2 * row];
      this.y[at] = places[2 * row + 1];
      this.rows[at] = row;
    }
  }

  // Give each point the kind of its row: a number of the palette.
  paint(kindOf) {
    this.kinds = new Uint8Array(this.count);
    for (let at = 0; at < this.count; at++) this.kinds[at] = kindOf(this.rows[at]);
  }

  // The stretches that have all points of a rectangle of the map, and some around it.
  *near(left, top, right, bottom) {
    const inside = (value) => Math.min(CELLS - 1, Math.max(0, value >> 8));
    if (right < 0 || bottom < 0 || left >= SIDE || top >= SIDE) return;
    for (let line = inside(top); line <= inside(bottom); line++) {
      const [from, to] = [this.starts[line * CELLS + inside(left)], this.starts[line * CELLS + inside(right) + 1]];
      if (from < to) yield [from, to];
    }
  }

  // How many points there are in the cells that a view shows a part of.
  about({ left, top, right, bottom }) {
    let count = 0;
    for (const [from, to] of this.near(left, top, right, bottom)) count += to - from;
    return count;
  }

  // Count the points on each pixel of `raster`, as dots of `size` pixels; a pixel has the kind of its last point. Of
  // every `step` points, one is drawn. The points in view are put into `seen`, if that is given.
  draw(raster, view, size, step, seen) {
    const { x, y, kinds } = this, { counts, width, height } = raster, { left, top, scale } = view, spots = disc(size);
    for (const [from, to] of this.near(view.left, view.top, view.right, view.bottom)) {
      for (let at = from; at < to; at += step) {
        const across = (x[at] - left) * scale, down = (y[at] - top) * scale;
        if (across < 0 || down < 0 || across >= width || down >= height) continue;
        seen?.push(at);
        if (size === 1) {
          const pixel = (down | 0) * width + (across | 0);
          counts[pixel]++;
          raster.kinds[pixel] = kinds[at];
          continue;
        }
        for (const [right, below] of spots) {
          const column = (across | 0) + right, line = (down | 0) + below;
          if (column < 0 || line < 0 || column >= width || line >= height) continue;
          counts[line * width + column]++;
          raster.kinds[line * width + column] = kinds[at];
        }
      }
    }
  }

  // The point nearest to a place of the map, at most `within` units away; -1 if none is.
  nearest(x, y, within) {
    let best = -1, least = within * within;
    for (const [from, to] of this.near(x - within, y - within, x + within, y + within)) {
      for (let at = from; at < to; at++) {
        const squared = (this.x[at] - x) ** 2 + (this.y[at] - y) ** 2;
        if (squared <= least) [best, least] = [at, squared];
      }
    }
    return best;
  }
}

// The pixels of a dot, from its middle.
function disc(size) {
  const spots = [], radius = size / 2, low = -Math.floor((size - 1) / 2);
  const middle = size % 2 ? 0 : 0.5;
  for (let down = low; down < low + size; down++) {
    for (let across = low; across < low + size; across++) {
      if ((down - middle) ** 2 + (across - middle) ** 2 <= radius * radius) spots.push([across, down]);
    }
  }
  return spots;
}

// Pixels as they are shown, from how many points are on each: the more, the less transparent.
export class Raster {
  constructor(context, width, height) {
    Object.assign(this, { context, width, height });
    this.counts = new Uint32Array(width * height);
    this.kinds = new Uint8Array(width * height);
    this.image = context.createImageData(width, height);
    this.pixels = new Uint32Array(this.image.data.buffer);
  }

  clear() {
    this.counts.fill(0);
  }

  // `palette`: 32 colours of each kind, for counts of 1, 2, 4, 8 and so on.
  show(palette) {
    const { counts, kinds, pixels } = this;
    for (let at = 0; at < pixels.length; at++) {
      const count = counts[at];
      pixels[at] = count ? palette[kinds[at] * 32 + 31 - Math.clz32(count)] : 0;
    }
    this.context.putImageData(this.image, 0, 0);
  }
}

// Colours, [red, green, blue] by kind, as a palette. `least`: the opacity of a single point. The first kind is faint.
export function paletteOf(colours, least) {
  const palette = new Uint32Array(colours.length * 32);
  colours.forEach(([red, green, blue], kind) => {
    for (let level = 0; level < 32; level++) {
      const opacity = Math.round((kind ? 255 : 80) * Math.min(1, least + level * 0.12));
      palette[kind * 32 + level] = ((opacity << 24) | (blue << 16) | (green << 8) | red) >>> 0;
    }
  });
  return palette;
}
