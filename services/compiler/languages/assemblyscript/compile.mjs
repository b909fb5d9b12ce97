// The compiler's process: it is kept, and builds one source after the other. See services/compiler/hot.py for how it is spoken to.
//
// A request is {"source": text, "imports": [[module, name], ...]}. It writes "KILN" as soon as the toolchain is loaded; what ends before is
// the platform's fault.

import { Console } from "node:console";
import { readSync, writeSync } from "node:fs";

// asc, Binaryen and json-as print; stdout belongs to the answers. Binaryen binds the console when it is loaded, so this comes first.
globalThis.console = new Console(process.stderr, process.stderr);
const { build } = await import("./build.mjs");

// Both ways synchronously, so that a build has the process to itself. A pipe that is full or empty for now says EAGAIN.
function patiently(act) {
  for (;;) {
    try {
      return act();
    } catch (error) {
      if (error.code !== "EAGAIN") throw error;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1);
    }
  }
}

function write(bytes) {
  for (let sent = 0; sent < bytes.length; ) sent += patiently(() => writeSync(1, bytes, sent));
}

/** So many bytes, or null when there are no more. */
function read(size) {
  const bytes = Buffer.alloc(size);
  for (let got = 0; got < size; ) {
    const count = patiently(() => readSync(0, bytes, got, size - got));
    if (count === 0) return null;
    got += count;
  }
  return bytes;
}

function answer({ wasm, ...header }) {
  const text = Buffer.from(JSON.stringify(header));
  const sizes = Buffer.alloc(8);
  sizes.writeUInt32BE(text.length, 0);
  sizes.writeUInt32BE(wasm.length, 4);
  write(Buffer.concat([sizes, text, wasm]));
}

write(Buffer.from("KILN"));
for (let size = read(4); size !== null; size = read(4)) {
  const request = JSON.parse(read(size.readUInt32BE()).toString("utf8"));
  answer(await build(request.source, request.imports));
  // What a build leaves is a fifth of its time to clear away: better now than in the middle of the next, for which somebody waits.
  globalThis.gc({ type: "minor" });
}
