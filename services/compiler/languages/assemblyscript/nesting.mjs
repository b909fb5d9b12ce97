// How deep a file nests. asc, Binaryen and json-as call themselves with each level, and crash where their stack ends.

import { Node, Parser } from "assemblyscript";

// What people write nests some twenty levels. None of the three crashes at 600 of any construct; at 1000 some do.
export const MAX_DEPTH = 500;

/**
 * Where a file nests deeper than its compiler can follow.
 *
 * A parser of its own reads it, which serves nothing else: one whose stack has ended leaves nothing behind.
 *
 * @param {string} text The user's file.
 * @returns {number | null} The offset of something that is too deep; null when nothing is.
 */
export function tooDeepAt(text) {
  const parser = new Parser();
  try {
    parser.parseFile(text, "function.ts", true);
  } catch (error) {
    // Whatever else is wrong with it, asc tells of.
    return error instanceof RangeError ? 0 : null;
  }
  const waiting = parser.sources.map((source) => [source, 0]);
  for (let next = waiting.pop(); next; next = waiting.pop()) {
    const [node, depth] = next;
    if (depth > MAX_DEPTH) return node.range.start;
    for (const child of partsOf(node)) waiting.push([child, depth + 1]);
  }
  return null;
}

function partsOf(node) {
  return Object.values(node).flat().filter((part) => part instanceof Node);
}
