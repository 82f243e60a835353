// The page: a photo, a prompt, and what each model makes of them. All of it stays in this tab.

import { about, Failure, Model } from "./api.js";
import { showComparison } from "./comparison.js";
import { listen } from "./input.js";
import { Mask } from "./masks.js";
import { Pane } from "./pane.js";
import { readable } from "./photo.js";

const INVITATION = "Click on a thing, or drag a box around it.";

const get = (id) => document.getElementById(id);
const sizes = [...get("sizes").children]; // buttons: small, medium, large
const scene = { photo: null, box: null, draft: null, points: [], pointer: null };
const facts = await about();
const panes = facts.models.map((each) => new Pane(new Model(each), scene));
let undoable = []; // prompts before the present one
let wanted = null; // which of a click's masks: an index of `sizes`, or the best
let answers = []; // of each model, to the present prompt
let asking = new AbortController();
let working = 0;

/** Let one thing after another happen; the page's state says when nothing does. */
async function work(task) {
  document.body.dataset.state = "working";
  working++;
  try {
    await task();
  } catch (error) {
    if (error.name !== "AbortError") trouble(error);
  } finally {
    if (!--working) document.body.dataset.state = "ready";
  }
}

function trouble(error) {
  get("trouble").textContent = error ? (error instanceof Failure ? error.message : `The page failed: ${error}`) : "";
  get("trouble").hidden = !error;
  if (error && !(error instanceof Failure)) console.error(error);
}

// A photo

const open = (given) => work(async () => {
  trouble(null);
  const { file, bitmap } = await readable(given, facts.upload_bytes);
  const photo = { bitmap, name: given.name, width: bitmap.width, height: bitmap.height };
  asking.abort();
  Object.assign(scene, { photo, box: null, draft: null, points: [], pointer: null });
  undoable = [];
  get("welcome").hidden = true;
  get("work").hidden = get("open").hidden = false;
  for (const pane of panes) pane.reset();
  changed();
  for (const pane of panes) pane.fit();
  panes[0].canvas.focus({ preventScroll: true });
  say("The photo is being encoded. You can click already.");
  // One after the other: at the same time they would slow each other down.
  let before = Promise.resolve();
  for (const pane of panes) before = pane.model.encode(file, before);
  const said = new Set();
  for (const pane of panes) {
    const { encode_seconds: seconds, warnings } = await pane.during(pane.model.encoded, "encode");
    if (scene.photo !== photo) return;
    pane.encoded(seconds);
    compare();
    for (const each of warnings) said.add(each);
  }
  if (!prompted() && !panes.some((pane) => pane.many)) {
    say([...said, INVITATION].join(" "));
  }
});

// A prompt

const prompted = () => Boolean(scene.box || scene.points.length);

function change(prompt) {
  undoable.push({ box: scene.box, points: scene.points });
  Object.assign(scene, prompt);
  changed();
}

function changed() {
  asking.abort();
  asking = new AbortController();
  wanted = null;
  answers = [];
  scene.draft = null;
  get("undo").disabled = !undoable.length;
  get("clear").disabled = !prompted() && !panes.some((pane) => pane.many);
  offer([], null);
  if (prompted()) work(() => ask(asking.signal));
  else {
    for (const pane of panes) pane.show([]);
    say(INVITATION);
  }
  for (const pane of panes) pane.draw();
}

async function ask(signal) {
  const { box, points } = scene;
  const single = !box && points.length === 1 && points[0].label === 1;
  const prompt = { multimask: single };
  if (box) prompt.boxes = [box];
  if (points.length) {
    prompt.points = [points.map(({ x, y }) => [x, y])];
    prompt.labels = [points.map(({ label }) => label)];
  }
  trouble(null);
  for (const pane of panes) {
    const answer = await pane.during(pane.model.predict(prompt, signal), "ask");
    if (signal.aborted) return;
    answers.push(answer.masks[0].map((record) => new Mask(record)));
    pane.answered(answer.seconds, false);
    choose();
  }
}

/** Show one of a click's masks: the one that is wanted, or which the first model thinks best. */
function choose() {
  const order = answers[0].map((_, index) => index);
  order.sort((a, b) => answers[0][a].record.area - answers[0][b].record.area);
  const score = (index) => answers[0][index].record.predicted_iou;
  const best = order.reduce((a, b) => (score(b) > score(a) ? b : a));
  const chosen = wanted === null ? best : order[wanted];
  offer(order.length < sizes.length ? [] : order, chosen);
  answers.forEach((masks, index) => panes[index].show([masks[chosen]]));
  const { area } = answers[0][chosen].record;
  const share = (100 * area) / (scene.photo.width * scene.photo.height);
  say(`The mask covers ${share.toFixed(1)} % of the photo.`);
  if (answers.length === panes.length) compare();
}

/** Let people choose among the masks of a click, the smallest first; none where there is one. */
function offer(order, chosen) {
  sizes.forEach((button, size) => {
    button.disabled = !order.length;
    button.setAttribute("aria-pressed", String(order.length > 0 && order[size] === chosen));
  });
}

const everything = () => work(async () => {
  asking.abort();
  const { signal } = (asking = new AbortController());
  if (prompted()) undoable.push({ box: scene.box, points: scene.points });
  Object.assign(scene, { box: null, points: [], draft: null });
  answers = [];
  offer([], null);
  get("clear").disabled = false;
  get("undo").disabled = !undoable.length;
  for (const pane of panes) pane.show([], true, "");
  say("Looking for everything in the photo …");
  const strictness = Number(get("strictness").value);
  const request = {
    points_per_side: Number(get("density").value),
    iou: strictness * facts.thresholds.iou,
    stability: strictness * facts.thresholds.stability,
  };
  for (const pane of panes) {
    const answer = await pane.during(pane.model.everything(request, signal), "ask");
    if (signal.aborted) return;
    pane.answered(answer.seconds, true);
    pane.show(answer.masks.map((record) => new Mask(record)), true);
  }
  say(
    panes.some(({ masks }) => masks.length) ? "Each colour is one mask. Click on a thing for its mask alone."
    : "No mask is confident enough. Ask for more masks, or at more points.",
  );
  compare();
});

function undo() {
  if (!undoable.length) return;
  Object.assign(scene, undoable.pop());
  changed();
}

function clear() {
  if (prompted()) change({ box: null, points: [] });
  else changed();
}

// Words

function say(text) {
  get("status").textContent = text;
}

const compare = () => panes.length > 1 && showComparison(get("comparison"), ...panes);

// What people do

const excluding = () => get("exclude").getAttribute("aria-pressed") === "true";

for (const [index, pane] of panes.entries()) {
  get("panes").append(pane.element);
  if (index) pane.canvas.tabIndex = -1; // keys on the first one move the cross on all
  listen(pane, {
    click: (x, y, excluded) => {
      if (scene.pointer?.pane) scene.pointer = null; // until it moves on
      change({ points: [...scene.points, { x, y, label: excluded || excluding() ? 0 : 1 }] });
    },
    box: (box) => change({ box }),
    move: (pointer, draft) => {
      Object.assign(scene, { pointer, draft });
      for (const each of panes) each.draw();
    },
  });
}

for (const name of ["include", "exclude"]) {
  get(name).onclick = () => {
    get("include").setAttribute("aria-pressed", String(name === "include"));
    get("exclude").setAttribute("aria-pressed", String(name === "exclude"));
  };
}
sizes.forEach((button, size) => {
  button.onclick = () => {
    wanted = size;
    choose();
  };
});
get("undo").onclick = undo;
get("clear").onclick = clear;
get("everything").onclick = everything;

get("choose").onclick = get("open").onclick = () => get("file").click();
get("file").onchange = () => {
  const [file] = get("file").files;
  if (file) open(file);
  get("file").value = "";
};
addEventListener("paste", (event) => {
  const [file] = event.clipboardData.files;
  if (file) open(file);
});
addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("dragging");
});
addEventListener("dragleave", (event) => event.relatedTarget || document.body.classList.remove("dragging"));
addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dragging");
  const [file] = event.dataTransfer.files;
  if (file) open(file);
});
addEventListener("keydown", (event) => {
  if (get("work").hidden) return;
  if (event.key === "Escape") clear();
  else if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "z") undo();
  else return;
  event.preventDefault();
});
addEventListener("resize", () => panes.forEach((pane) => pane.fit()));

// The first sight

get("served").textContent = facts.models.map(({ name }) => name).join(" beside ");
get("panes").dataset.count = panes.length;
get("samples").hidden = !facts.samples.length;
for (const { file, credit } of facts.samples) {
  const item = document.createElement("li"), button = document.createElement("button");
  const picture = Object.assign(new Image(), { src: `/samples/${file}`, alt: credit.split(",")[0] });
  button.type = "button";
  button.title = credit;
  button.append(picture);
  button.onclick = () => work(async () => {
    const content = await (await fetch(picture.src)).blob();
    await open(new File([content], file, { type: content.type }));
  });
  item.append(button);
  get("samples").querySelector("ul").append(item);
}
document.body.dataset.state = "ready";
