// The compiler's process: one request as JSON on stdin, one framed result on stdout.
//
// Request: {"source": text, "imports": [[module, name], ...]}. Result: the four bytes "KILN" as soon as the toolchain is loaded (what ends
// before is the platform's fault), then the length of the header (u32, big endian), the header as JSON, and the module's bytes.

import { Console } from "node:console";
import { readFileSync, writeSync } from "node:fs";

// asc, Binaryen and json-as print; stdout belongs to the result. Binaryen binds the console when it is loaded, so this comes first.
globalThis.console = new Console(process.stderr, process.stderr);
const { build } = await import("./build.mjs");

function write(bytes) {
  for (let sent = 0; sent < bytes.length; ) {
    try {
      sent += writeSync(1, bytes, sent);
    } catch (error) {
      if (error.code !== "EAGAIN") throw error;
    }
  }
}

function answer({ wasm, ...header }) {
  const text = Buffer.from(JSON.stringify(header));
  const length = Buffer.alloc(4);
  length.writeUInt32BE(text.length);
  write(Buffer.concat([length, text, wasm]));
}

write(Buffer.from("KILN"));
const request = JSON.parse(readFileSync(0, "utf8"));
answer(await build(request.source, request.imports));
