// Masks as COCO's run lengths: read, compared, and drawn as outlines.

const MOST_PIXELS = 1.2e6; // that an outline is traced on
const SPECK = 0.03; // of width and height together: borders that are shorter are not drawn

/** A colour of its own for each of many masks. */
export const hue = (index, alpha) => `hsl(${(index * 137.5 + 215) % 360} 90% 60% / ${alpha})`;

/** Lengths of the runs, background first, down the columns; `counts` is COCO's compressed text. */
function runs(counts) {
  const lengths = [];
  for (let i = 0; i < counts.length; ) {
    let number = 0, shift = 0, symbol;
    do {
      symbol = counts.charCodeAt(i++) - 48;
      number |= (symbol & 31) << shift;
      shift += 5;
    } while (symbol & 32);
    if (symbol & 16 && shift < 32) number |= -1 << shift;
    if (lengths.length > 2) number += lengths[lengths.length - 2];
    lengths.push(number);
  }
  return lengths;
}

export class Mask {
  /** `record`: a mask as the server's answers have it. */
  constructor(record) {
    this.record = record;
    [this.height, this.width] = record.segmentation.size;
    this.runs = runs(record.segmentation.counts);
  }

  /** Bytes of 0 and 1, row by row, of every `step`-th pixel. */
  pixels(step = 1) {
    const width = Math.ceil(this.width / step), height = Math.ceil(this.height / step);
    const found = new Uint8Array(width * height);
    let place = 0;
    this.runs.forEach((length, index) => {
      const end = place + length;
      if (index % 2) {
        for (let start = place; start < end; ) {
          const column = Math.floor(start / this.height), top = start - column * this.height;
          const bottom = Math.min(end - column * this.height, this.height);
          if (column % step === 0) {
            for (let row = Math.ceil(top / step); row * step < bottom; row++) {
              found[row * width + column / step] = 1;
            }
          }
          start = column * this.height + bottom;
        }
      }
      place = end;
    });
    return { width, height, found };
  }

  /** Two Path2D in pixels of the photo: the area, and its outline but for specks. */
  get shape() {
    const step = Math.ceil(Math.sqrt((this.width * this.height) / MOST_PIXELS));
    return (this._shape ??= trace(this.pixels(step), step));
  }
}

/** Intersection over union of two masks of one photo; 1 if both are empty. */
export function iou(one, other) {
  const edges = (mask) => {
    let place = 0;
    return mask.runs.map((length) => (place += length));
  };
  const [a, b] = [edges(one), edges(other)];
  let i = 0, j = 0, place = 0, both = 0, either = 0;
  while (i < a.length && j < b.length) {
    const next = Math.min(a[i], b[j]);
    if (i % 2 && j % 2) both += next - place;
    if (i % 2 || j % 2) either += next - place;
    place = next;
    if (a[i] === place) i++;
    if (b[j] === place) j++;
  }
  return either ? both / either : 1;
}

function trace({ width, height, found }, step) {
  const inside = (x, y) => x >= 0 && y >= 0 && x < width && y < height && found[y * width + x];
  // Borders between a pixel inside and one outside lead from corner to corner, the inside on their
  // right; two may start at a corner where pixels touch diagonally.
  const columns = width + 1;
  const next = new Int32Array(2 * columns * (height + 1)).fill(-1);
  const lead = (from, to) => (next[next[2 * from] < 0 ? 2 * from : 2 * from + 1] = to);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      if (!found[y * width + x]) continue;
      const corner = y * columns + x;
      if (!inside(x, y - 1)) lead(corner, corner + 1);
      if (!inside(x + 1, y)) lead(corner + 1, corner + columns + 1);
      if (!inside(x, y + 1)) lead(corner + columns + 1, corner + columns);
      if (!inside(x - 1, y)) lead(corner + columns, corner);
    }
  }
  const area = new Path2D(), outline = new Path2D();
  for (let start = 0; start < next.length / 2; start++) {
    while (next[2 * start] >= 0) {
      const corners = loop(next, start);
      ring(area, corners, columns, step);
      if (corners.length > SPECK * (width + height)) ring(outline, corners, columns, step);
    }
  }
  return { area, outline };
}

/** The corners of one closed border; its pieces are taken away. */
function loop(next, start) {
  const corners = [];
  let corner = start;
  do {
    corners.push(corner);
    const slot = next[2 * corner + 1] >= 0 ? 2 * corner + 1 : 2 * corner;
    [corner, next[slot]] = [next[slot], -1];
  } while (corner !== start);
  return corners;
}

/** Add a border to a path, its corners rounded by half a pixel. */
function ring(path, corners, columns, step) {
  const point = (corner) => [step * (corner % columns), step * Math.floor(corner / columns)];
  const count = corners.length;
  for (let i = 0; i <= count; i++) {
    const [before, here, after] = [i + count - 1, i, i + 1].map((n) => point(corners[n % count]));
    const [fromX, fromY] = [(before[0] + here[0]) / 2, (before[1] + here[1]) / 2];
    const [toX, toY] = [(here[0] + after[0]) / 2, (here[1] + after[1]) / 2];
    const straight = here[0] - before[0] === after[0] - here[0] && here[1] - before[1] === after[1] - here[1];
    if (i === 0) path.moveTo(toX, toY);
    else if (!straight) {
      path.lineTo(fromX, fromY);
      path.quadraticCurveTo(here[0], here[1], toX, toY);
    }
  }
  path.closePath();
}
