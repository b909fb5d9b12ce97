// One build with asc's own programming interface, in memory only.

import asc from "assemblyscript/asc";
import JsonTransform from "json-as/transform/lib/index.js";
import { crashed, diagnose, refused, stackEnded, tooDeep } from "./diagnostics.mjs";
import { filesFor, USER_FILE } from "./files.mjs";
import { tooDeepAt } from "./nesting.mjs";
import { kilnTransform } from "./transform.mjs";

const OUTPUT = "function.wasm";
// Features stay at asc's defaults: mutable globals, sign extension, saturating conversions, bulk memory. The names in --debug are what a
// trap's stack is told with. Optimizing more, or for size, takes half as long again and makes no function faster. The stack is that of the
// collector (pointers to live objects), 128 KiB for recursion over deep JSON.
const FLAGS = [
  USER_FILE,
  ...["--outFile", OUTPUT],
  ...["--config", "none"],
  ...["--runtime", "incremental", "--exportRuntime", "--stackSize", "131072"],
  ...["--optimizeLevel", "2", "--shrinkLevel", "0", "--debug"],
  "--noColors",
];
const BYTE_ORDER_MARK = /^\uFEFF/;
// A mention in a comment costs time, nothing else.
const MENTIONS_JSON = /\bJSON\b|@json\b|@serializable\b|\bjson-as\b/;

class CompilerExit extends Error {}

// asc ends its process when it crashes, having printed why; here that is one failed build.
process.exit = () => {
  throw new CompilerExit("it gave up");
};

/** Does something, and tells what was printed meanwhile as an error. */
async function hearing(act) {
  const { error } = console;
  let heard = "";
  console.error = (text) => {
    heard += text;
    error(text);
  };
  try {
    return { ...(await act()), heard };
  } catch (thrown) {
    return { error: thrown, heard };
  } finally {
    console.error = error;
  }
}

/**
 * Whether a stack ended in the JavaScript of asc or json-as alone. They hold all of a build in objects that go with it; Binaryen, which is
 * WebAssembly, would be left in the middle of something.
 */
function endedAlone(heard) {
  const frames = heard.match(/\bat .*:\d+:\d+/g) ?? [];
  const ours = frames.every((frame) => /\/node_modules\/(?:assemblyscript|json-as)\//.test(frame));
  return heard.includes("RangeError: Maximum call stack size exceeded") && frames.length > 0 && ours;
}

/**
 * Compiles one file.
 *
 * @param {string} source The user's text.
 * @param {[string, string][]} imports Module and name of each function that may be imported.
 * @returns {Promise<{reason: string | null, diagnostics: object[], wasm: Uint8Array}>} A null reason means that it compiled.
 */
export async function build(source, imports) {
  const text = source.replace(BYTE_ORDER_MARK, "");
  const deep = tooDeepAt(text);
  if (deep !== null) return failed("COMPILE_ERROR", [tooDeep(deep, text)]);
  const files = filesFor(text);
  const usesJson = MENTIONS_JSON.test(text);
  const notes = { program: null, own: [] };
  const transforms = [kilnTransform(notes, { usesJson, imports }), ...(usesJson ? [JsonTransform] : [])];
  const { error, heard } = await hearing(() => asc.main(FLAGS, { ...files, transforms }));
  const diagnostics = diagnose(notes, text);
  const wasm = files.written.get(OUTPUT);
  if (diagnostics.some((one) => one.severity === "ERROR")) return failed("COMPILE_ERROR", diagnostics);
  if (!error && wasm) return { reason: null, diagnostics, wasm };
  // A transform refuses by a plain Error; anything else is a fault inside the compiler.
  if (error?.constructor === Error) return failed("COMPILE_ERROR", [...diagnostics, refused(error, text)]);
  if (endedAlone(error instanceof RangeError ? String(error.stack) : heard)) return failed("COMPILE_ERROR", [stackEnded(text)]);
  return failed("COMPILER_CRASHED", [...diagnostics, crashed(error, text)]);
}

function failed(reason, diagnostics) {
  return { reason, diagnostics, wasm: new Uint8Array() };
}
