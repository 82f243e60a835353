// Runs a model with ONNX Runtime Web, as a browser would: node run_in_node.mjs JOB, a JSON file of
// { model, inputs: { name: { file, dims } }, outputs: { name: file } }; files hold float32.
import { readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";

// Packages are looked for where NODE_PATH says, which `import` does not do.
const ort = createRequire(import.meta.url)("onnxruntime-web");
ort.env.wasm.numThreads = 1;
const job = JSON.parse(readFileSync(process.argv[2], "utf8"));
const session = await ort.InferenceSession.create(job.model);
const feeds = {};
for (const [name, { file, dims }] of Object.entries(job.inputs)) {
  const bytes = readFileSync(file);
  const values = new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4);
  feeds[name] = new ort.Tensor("float32", values, dims);
}
const results = await session.run(feeds);
for (const [name, file] of Object.entries(job.outputs)) {
  writeFileSync(file, new Uint8Array(results[name].data.slice().buffer));
}
