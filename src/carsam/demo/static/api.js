// The server's interface, one object for each model.

const MOST_TRIES = 5;

export class Failure extends Error {
  constructor(message, code) {
    super(message);
    this.code = code;
  }
}

const wait = (seconds) => new Promise((done) => setTimeout(done, 1000 * seconds));

/** Send a Blob or an object; return what the answer's JSON holds. A busy server is asked again. */
async function send(path, body, signal) {
  const json = !(body instanceof Blob);
  const request = {
    method: "POST",
    body: json ? JSON.stringify(body) : body,
    headers: { "Content-Type": json ? "application/json" : "application/octet-stream" },
    signal,
  };
  for (let tries = 1; ; tries++) {
    const reply = await fetch(path, request).catch((error) => {
      throw error.name === "AbortError" ? error : new Failure("The server cannot be reached.");
    });
    if (reply.status === 503 && tries < MOST_TRIES) {
      await wait(Number(reply.headers.get("Retry-After")) || 1);
      continue;
    }
    const found = await reply.json().catch(() => null);
    if (reply.ok && found) return found;
    const { message, code } = found?.error ?? {};
    throw new Failure(message ?? `The server answered with status ${reply.status}.`, code);
  }
}

export class Model {
  constructor(facts) {
    Object.assign(this, facts); // prefix, name, arithmetic, bits, bytes
  }

  /** Send a photo when `before` has come to its end. What is asked meanwhile waits. */
  encode(file, before = Promise.resolve()) {
    this.file = file;
    this.encoded = before.then(() => send(`${this.prefix}/api/images`, file));
    this.encoded.catch(() => {}); // whoever awaits it hears of it
    return this.encoded;
  }

  /** Ask for masks; a photo that the server has dropped meanwhile is sent again. */
  async #ask(path, fields, signal) {
    const file = this.file;
    const { image } = await this.encoded;
    try {
      return await send(this.prefix + path, { image, ...fields }, signal);
    } catch (error) {
      if (error.code !== "unknown_image" || file !== this.file) throw error;
      await this.encode(file);
      return send(this.prefix + path, { image, ...fields }, signal);
    }
  }

  predict(prompt, signal) {
    return this.#ask("/api/predict", prompt, signal);
  }

  everything(request, signal) {
    return this.#ask("/api/everything", request, signal);
  }
}

export async function about() {
  return (await fetch("/about")).json();
}
