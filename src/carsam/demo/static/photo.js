// A file that somebody has chosen, dropped or pasted.

import { Failure } from "./api.js";

const READ = ["image/jpeg", "image/png", "image/webp", "image/gif", "image/bmp"]; // by the server

/** Return a file that the server takes, and its picture; a sentence is thrown where there is none. */
export async function readable(file, most) {
  const bitmap = await createImageBitmap(file).catch(() => {
    throw new Failure(`${file.name} is no photo that this browser can show. Choose a JPEG, PNG or WebP file.`);
  });
  if (!READ.includes(file.type)) { // the browser can show more kinds than the server reads
    const canvas = Object.assign(document.createElement("canvas"), { width: bitmap.width, height: bitmap.height });
    canvas.getContext("2d").drawImage(bitmap, 0, 0);
    file = new File([await new Promise((done) => canvas.toBlob(done))], file.name);
  }
  if (file.size > most) {
    const [has, takes] = [file.size, most].map((bytes) => (bytes / 1e6).toFixed(1));
    throw new Failure(`${file.name} has ${has} MB; this server takes ${takes} MB. Choose a smaller photo.`);
  }
  return { file, bitmap };
}
