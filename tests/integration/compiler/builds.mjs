// Many builds in one process, for tests that need many: reads {"driver", "sources", "imports"} as JSON on stdin, answers with results.

import { readFileSync } from "node:fs";
import { Console } from "node:console";

globalThis.console = new Console(process.stderr, process.stderr);
const { driver, sources, imports } = JSON.parse(readFileSync(0, "utf8"));
const { build } = await import(driver);
const results = [];
for (const source of sources) {
  const { wasm, ...result } = await build(source, imports);
  results.push({ ...result, wasm: Buffer.from(wasm).toString("base64") });
}
// Not a synchronous write: a pipe that is full would refuse the rest.
process.stdout.write(JSON.stringify(results));
