// Files to take along, made in the browser in the photo's own size.

import { hue } from "./masks.js";

export async function savePng(pane) {
  save(await png(pane.many ? many(pane) : one(pane.masks[0], 255)), pane, "mask.png");
}

/** The photo where the mask is, nothing elsewhere. */
export async function saveCutout(pane) {
  const { canvas, context } = one(pane.masks[0], 0);
  context.globalCompositeOperation = "source-in";
  context.drawImage(pane.scene.photo.bitmap, 0, 0);
  save(await png({ canvas }), pane, "cutout.png");
}

/** What `carsam masks` writes, and the prompt. */
export function saveJson(pane) {
  const { photo, box, points } = pane.scene;
  const image = { file_name: photo.name, height: photo.height, width: photo.width };
  const prompt = pane.many ? {} : {
    box,
    point_coords: points.map(({ x, y }) => [x, y]),
    point_labels: points.map(({ label }) => label),
  };
  const annotations = pane.masks.map(({ record }, id) => ({ id, ...record, ...prompt }));
  const text = JSON.stringify({ image, annotations }) + "\n";
  save(new Blob([text], { type: "application/json" }), pane, "masks.json");
}

function blank({ width, height }) {
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width, height });
  return { canvas, context: canvas.getContext("2d") };
}

/** A mask in white; what is around it in black, or transparent if `around` is 0. */
function one(mask, around) {
  const { canvas, context } = blank(mask);
  const data = context.createImageData(mask.width, mask.height);
  const colours = new Uint32Array(data.data.buffer);
  const outside = new Uint32Array(new Uint8Array([0, 0, 0, around]).buffer)[0];
  mask.pixels().found.forEach((inside, place) => (colours[place] = inside ? 0xffffffff : outside));
  context.putImageData(data, 0, 0);
  return { canvas, context };
}

/** All masks in colours of their own, the smaller ones in front. */
function many(pane) {
  const whole = blank(pane.scene.photo);
  const order = pane.masks.map((mask, index) => [mask, index]);
  order.sort(([a], [b]) => b.record.area - a.record.area);
  for (const [mask, index] of order) {
    const { canvas, context } = one(mask, 0);
    context.globalCompositeOperation = "source-in";
    context.fillStyle = hue(index, 1);
    context.fillRect(0, 0, mask.width, mask.height);
    whole.context.drawImage(canvas, 0, 0);
  }
  return whole;
}

const png = ({ canvas }) => new Promise((done) => canvas.toBlob(done, "image/png"));

function save(blob, pane, ending) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = `${pane.scene.photo.name.replace(/\.\w+$/, "")}.${pane.model.name}.${ending}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}
