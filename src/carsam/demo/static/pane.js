// One model's view of the photo: a canvas, what it took, and buttons to save what was found.

import { hue } from "./masks.js";
import { saveCutout, saveJson, savePng } from "./save.js";

const ACCENT = "#2f6bff", EXCLUDED = "#e5484d";
const TALLEST = 0.66; // share of the window's height

const time = (seconds) => (seconds < 0.9995 ? `${Math.round(1000 * seconds)} ms` : `${seconds.toFixed(2)} s`);

const median = (numbers) => [...numbers].sort((a, b) => a - b)[numbers.length >> 1];

const counted = (masks) => `${masks.length} mask${masks.length === 1 ? "" : "s"}`;

const scored = ([mask]) => (mask ? `predicted IoU ${mask.record.predicted_iou.toFixed(2)}` : "");

export class Pane {
  /** `scene` is shared by all panes: the photo, the prompt, and where the pointer is. */
  constructor(model, scene) {
    this.model = model;
    this.scene = scene;
    this.element = document.getElementById("pane").content.firstElementChild.cloneNode(true);
    const find = (name) => this.element.querySelector(name);
    find("b").textContent = model.bits;
    find("figcaption span").textContent = `${model.name}, ${model.arithmetic}`;
    find(".bytes").textContent = `${(model.bytes / 1e6).toFixed(1)} MB`;
    this.canvas = find("canvas");
    this.canvas.setAttribute("aria-label", `Photo with the masks of ${model.name}`);
    this.bar = find(".bar");
    this.score = find("em");
    this.what = find(".what");
    this.took = { encode: find(".encode"), ask: find(".ask") };
    this.buttons = { png: find(".png"), cutout: find(".cutout"), json: find(".json") };
    this.buttons.png.onclick = () => savePng(this);
    this.buttons.cutout.onclick = () => saveCutout(this);
    this.buttons.json.onclick = () => saveJson(this);
    new ResizeObserver(() => this.fit()).observe(this.element);
    this.reset();
  }

  /** Forget what was found on the photo before. */
  reset() {
    this.encodeSeconds = null;
    this.askSeconds = [];
    this.took.encode.textContent = this.took.ask.textContent = "–";
    this.show([]);
  }

  /** Show one mask, or the many of everything mode, and a word on them. */
  show(masks, many = false, word = many ? counted(masks) : scored(masks)) {
    this.masks = masks;
    this.many = many;
    this.score.textContent = word;
    this.what.textContent = many ? "Everything" : "Mask";
    for (const button of Object.values(this.buttons)) button.disabled = !masks.length;
    this.buttons.cutout.disabled ||= many;
    this.draw();
  }

  encoded(seconds) {
    this.encodeSeconds = seconds;
    this.took.encode.textContent = time(seconds);
  }

  /** Note the time of an answer; that of prompts is the median on this photo. */
  answered(seconds, many) {
    if (!many) this.askSeconds.push(seconds);
    this.took.ask.textContent = time(many ? seconds : this.askMedian);
  }

  get askMedian() {
    return this.askSeconds.length ? median(this.askSeconds) : null;
  }

  /** Show that this model is at work, and count the seconds, until the promise is settled. */
  async during(promise, what) {
    const cell = this.took[what], before = cell.textContent, start = performance.now();
    const tick = setInterval(() => {
      const seconds = (performance.now() - start) / 1000;
      if (seconds > 0.3) {
        this.bar.hidden = false;
        cell.textContent = `${seconds.toFixed(1)} s …`;
      }
    }, 100);
    this.canvas.setAttribute("aria-busy", "true");
    try {
      return await promise;
    } catch (error) {
      cell.textContent = before;
      throw error;
    } finally {
      clearInterval(tick);
      this.bar.hidden = true;
      this.canvas.removeAttribute("aria-busy");
    }
  }

  /** Make the canvas as large as there is place for. */
  fit() {
    const { photo } = this.scene;
    if (!photo) return;
    const place = this.canvas.parentElement.clientWidth;
    const width = Math.min(place, (TALLEST * innerHeight * photo.width) / photo.height);
    const sharp = devicePixelRatio || 1, canvas = this.canvas;
    canvas.style.width = `${width}px`;
    canvas.style.aspectRatio = `${photo.width} / ${photo.height}`;
    canvas.width = Math.round(width * sharp);
    canvas.height = Math.round((width * sharp * photo.height) / photo.width);
    this.paint();
  }

  /** Paint before the next frame, once however often it is asked for. */
  draw() {
    this.frame ??= requestAnimationFrame(() => {
      this.frame = null;
      this.paint();
    });
  }

  paint() {
    const { photo, box, draft, points, pointer } = this.scene;
    if (!photo || !this.canvas.width) return;
    const context = this.canvas.getContext("2d");
    const scale = this.canvas.width / photo.width;
    this.pixel = (devicePixelRatio || 1) / scale; // a pixel of the page, in pixels of the photo
    context.setTransform(scale, 0, 0, scale, 0, 0);
    context.imageSmoothingQuality = "high";
    context.drawImage(photo.bitmap, 0, 0, photo.width, photo.height);
    if (this.many) this.paintMany(context);
    else if (this.masks.length) this.paintMask(context, this.masks[0].shape);
    if (draft ?? box) this.paintBox(context, draft ?? box);
    for (const point of points) this.paintPoint(context, point);
    if (pointer && pointer.pane !== this) this.paintCross(context, pointer);
  }

  paintMask(context, { area, outline }) {
    const { width, height } = this.scene.photo;
    const outside = new Path2D();
    outside.rect(0, 0, width, height);
    outside.addPath(area);
    context.fillStyle = "rgb(8 12 24 / .45)";
    context.fill(outside, "evenodd");
    context.fillStyle = "rgb(47 107 255 / .38)";
    context.fill(area, "evenodd");
    this.stroke(context, outline, "#fff", 2);
  }

  paintMany(context) {
    const { width, height } = this.scene.photo;
    context.fillStyle = "rgb(8 12 24 / .35)";
    context.fillRect(0, 0, width, height);
    const order = this.masks.map((mask, index) => [mask, index]);
    order.sort(([a], [b]) => b.record.area - a.record.area);
    for (const [mask, index] of order) {
      context.fillStyle = hue(index, 0.5);
      context.fill(mask.shape.area, "evenodd");
      this.stroke(context, mask.shape.outline, hue(index, 1), 1.5);
    }
  }

  paintBox(context, [x0, y0, x1, y1]) {
    const path = new Path2D();
    path.rect(x0, y0, x1 - x0, y1 - y0);
    this.stroke(context, path, "rgb(8 12 24 / .55)", 4.5);
    this.stroke(context, path, "#fff", 2);
  }

  paintPoint(context, { x, y, label }) {
    const radius = 8 * this.pixel, arm = 3.6 * this.pixel;
    const disc = new Path2D(), sign = new Path2D();
    disc.arc(x, y, radius, 0, 7);
    sign.moveTo(x - arm, y);
    sign.lineTo(x + arm, y);
    if (label) {
      sign.moveTo(x, y - arm);
      sign.lineTo(x, y + arm);
    }
    this.stroke(context, disc, "rgb(8 12 24 / .4)", 5);
    context.fillStyle = label ? ACCENT : EXCLUDED;
    context.fill(disc);
    this.stroke(context, disc, "#fff", 2);
    this.stroke(context, sign, "#fff", 2);
  }

  paintCross(context, { x, y }) {
    const arm = 9 * this.pixel, cross = new Path2D();
    cross.moveTo(x - arm, y);
    cross.lineTo(x + arm, y);
    cross.moveTo(x, y - arm);
    cross.lineTo(x, y + arm);
    this.stroke(context, cross, "rgb(8 12 24 / .6)", 3.5);
    this.stroke(context, cross, "#fff", 1.5);
  }

  stroke(context, path, colour, width) {
    context.strokeStyle = colour;
    context.lineWidth = width * this.pixel;
    context.lineCap = context.lineJoin = "round";
    context.stroke(path);
  }
}
