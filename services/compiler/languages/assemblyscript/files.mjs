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

nameOutOfMemory(asc.libraryFiles);
