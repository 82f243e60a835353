// Two models beside each other in numbers, as far as they are known.

import { iou } from "./masks.js";

/** Fill a definition list with what two panes show. */
export function showComparison(list, one, other) {
  const rows = [ratio(one.model.bytes, other.model.bytes, "smaller", "larger", "the size")];
  for (const [name, what] of [["encodeSeconds", "to encode the photo"], ["askMedian", "from prompt to mask"]]) {
    rows.push(ratio(one[name], other[name], `faster ${what}`, `slower ${what}`, `the time ${what}`));
  }
  const single = [one, other].every(({ masks, many }) => masks.length && !many);
  rows.push(single && [iou(one.masks[0], other.masks[0]).toFixed(2), "IoU of the two masks"]);
  list.replaceChildren(...rows.filter(Boolean).map(row));
  list.hidden = false;
}

function ratio(mine, its, less, more, same) {
  if (!mine || !its) return null;
  const value = Math.max(mine / its, its / mine).toFixed(1);
  return [`${value}×`, value === "1.0" ? same : mine < its ? less : more];
}

function row([value, words]) {
  const row = document.createElement("div");
  for (const [tag, text] of [["dt", words], ["dd", value]]) {
    row.append(Object.assign(document.createElement(tag), { textContent: text }));
  }
  return row;
}
