// All that asc may read: the user's one file, json-as, and the standard library that it brings along. All that it may write: memory.

import { readFileSync } from "node:fs";
import { posix } from "node:path";
import { fileURLToPath } from "node:url";
import asc from "assemblyscript/asc";

export const USER_FILE = "function.ts";

const HERE = fileURLToPath(new URL(".", import.meta.url));
// xjb-as converts numbers for json-as.
const SERVED = /^node_modules\/(?:json-as|xjb-as)\/[\w./-]+\.ts$/;
const packages = new Map();

/** The text of one file of the served packages, or null. Packages never change while this process lives. */
function readPackage(path) {
  if (!SERVED.test(path)) return null;
  if (!packages.has(path)) packages.set(path, readOrNull(HERE + path));
  return packages.get(path);
}

function readOrNull(path) {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return null;
  }
}

/** The file access of one build. What asc writes is in `written`, by name. */
export function filesFor(source) {
  const written = new Map();
  return {
    written,
    readFile(name, base) {
      const path = posix.normalize(posix.join(base ?? ".", name));
      return path === USER_FILE ? source : readPackage(path);
    },
    writeFile(name, contents) {
      written.set(name, contents);
    },
    listFiles: () => [],
  };
}

/**
 * Makes a failed growth of memory tell itself apart from any other trap: the allocator aborts with a message, from its own file, where it
 * only had an `unreachable`. Lines stay where they are.
 */
function nameOutOfMemory(library) {
  const plain = library["rt/tlsf"];
  const named = plain.replaceAll(/\bunreachable\(\);/g, 'throw new Error("out of memory");');
  if (named === plain) throw new Error("rt/tlsf of this assemblyscript has no failed growth to name");
  library["rt/tlsf"] = named;
}

/**
 * Fills `process.env`, which is always empty in asc's own library: the host says how much it takes, and writes names and values by turns,
 * each ended by a NUL.
 */
function fillEnvironment(library) {
  const plain = library["process"];
  const filled = plain.replace("return new Map();", "return readEnvironment();");
  if (filled === plain) throw new Error("process of this assemblyscript has no environment to fill");
  library["process"] = filled + ENVIRONMENT;
}

const ENVIRONMENT = `
@external("env", "process.env.size") declare function environmentSize(): i32;
@external("env", "process.env.read") declare function readEnvironmentTo(address: usize): void;

function readEnvironment(): Map<string, string> {
  const environment = new Map<string, string>();
  const bytes = new Uint8Array(environmentSize());
  readEnvironmentTo(bytes.dataStart);
  const texts = String.UTF16.decode(bytes.buffer).split("\\0");
  for (let index = 0; index + 1 < texts.length; index += 2) environment.set(texts[index], texts[index + 1]);
  return environment;
}
`;

nameOutOfMemory(asc.libraryFiles);
fillEnvironment(asc.libraryFiles);
