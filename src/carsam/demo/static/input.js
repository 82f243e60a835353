// What pointer and keys on the photo mean: a click, or a box.

const DRAG = 6; // pixels of the page from which on it is a box
const STEP = 0.02; // of the photo's longer side, by which an arrow key moves the cross

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

const corners = (a, b) => [Math.min(a.x, b.x), Math.min(a.y, b.y), Math.max(a.x, b.x), Math.max(a.y, b.y)];

/**
 * Listen to a pane's canvas.
 *
 * `on.click(x, y, excluded)` and `on.box([x0, y0, x1, y1])` are told what was given, in whole pixels of
 * the photo; `on.move(pointer, box)` where the pointer is, and the box that is being drawn.
 */
export function listen(pane, on) {
  const { canvas, scene } = pane;
  let start = null; // of a drag
  let first = null; // corner of a box that was set by key
  const limit = (value, most) => Math.round(Math.min(Math.max(value, 0), most));
  const clamp = (x, y) => ({ x: limit(x, scene.photo.width), y: limit(y, scene.photo.height) });
  const click = ({ x, y }, excluded) => {
    on.click(limit(x, scene.photo.width - 1), limit(y, scene.photo.height - 1), excluded);
  };
  const place = (event) => {
    const around = canvas.getBoundingClientRect();
    const scale = scene.photo.width / around.width;
    return { pane, ...clamp((event.clientX - around.left) * scale, (event.clientY - around.top) * scale) };
  };
  const far = (event) => Math.hypot(event.clientX - start.clientX, event.clientY - start.clientY) >= DRAG;

  canvas.addEventListener("pointerdown", (event) => {
    if (event.button > 2 || !event.isPrimary) return;
    first = null;
    start = { ...place(event), clientX: event.clientX, clientY: event.clientY, button: event.button };
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", (event) => {
    const here = place(event);
    on.move(here, start && start.button === 0 && far(event) ? corners(start, here) : null);
  });
  canvas.addEventListener("pointerup", (event) => {
    if (!start) return;
    const here = place(event), [x0, y0, x1, y1] = corners(start, here);
    const dragged = start.button === 0 && far(event);
    start = null;
    if (!dragged) click(here, event.button === 2 || event.shiftKey);
    else if (x1 > x0 && y1 > y0) on.box([x0, y0, x1, y1]);
    else on.move(here, null);
  });
  canvas.addEventListener("pointercancel", () => {
    start = null;
    on.move(null, null);
  });
  canvas.addEventListener("pointerleave", () => start || on.move(null, null));
  canvas.addEventListener("contextmenu", (event) => event.preventDefault());

  canvas.addEventListener("keydown", (event) => {
    const { photo, pointer } = scene;
    if (!photo || event.ctrlKey || event.metaKey || event.altKey) return;
    const here = pointer ?? clamp(photo.width / 2, photo.height / 2);
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    if (key in ARROWS) {
      const step = event.shiftKey ? 1 : Math.ceil(STEP * Math.max(photo.width, photo.height));
      const there = clamp(here.x + step * ARROWS[key][0], here.y + step * ARROWS[key][1]);
      on.move(there, first && corners(first, there));
    } else if (key === "Enter" || key === "x") {
      click(here, key === "x");
    } else if (key === "b" && first && first.x !== here.x && first.y !== here.y) {
      on.box(corners(first, here));
      first = null;
    } else if (key === "b") {
      first = here;
      on.move(here, null);
    } else return;
    event.preventDefault();
  });
  canvas.addEventListener("blur", () => (first = null));
}
