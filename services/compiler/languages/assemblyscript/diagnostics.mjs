// What went wrong, as data in terms of the user's own file: 1-based lines, and columns in code points.

import { hintFor } from "./hints.mjs";
import { MAX_DEPTH } from "./nesting.mjs";
import { userSource } from "./transform.mjs";

// A conversion that would need a cast in 64-bit WebAssembly, which nobody runs here.
const FOR_64_BIT = 201;
const MAX_DIAGNOSTICS = 50;
const MAX_MESSAGE = 2000;
const MAX_EXCERPT = 200;
const SEVERITIES = ["INFO", "INFO", "WARNING", "ERROR"]; // by asc's DiagnosticCategory: pedantic, info, warning, error
// Controls, and the characters that reorder or break a line on its way to a terminal. Tabs and, in messages, newlines stay.
const UNPRINTABLE = /[\0-\x08\x0B-\x1F\x7F-\x9F\u061C\u200E\u200F\u2028-\u202E\u2066-\u2069]/g;
const HOST_PATH = /(?:file:\/\/)?(?<![\w~./-])\/[\w.@+-]+(?:\/[\w.@+-]+)+/g;

/**
 * All diagnostics of a build.
 *
 * @param notes asc's program (null when it never came to be) and the errors found by Kiln itself.
 * @param {string} text The user's file, as asc read it.
 */
export function diagnose({ program, own }, text) {
  const lines = new Lines(text);
  const source = program && userSource(program.parser);
  const told = (program?.diagnostics ?? []).filter((one) => isError(one) || (one.range?.source === source && one.code !== FOR_64_BIT));
  const compiled = withoutEchoes(told.map((one) => fromAsc(one, source, lines)));
  const all = [...compiled, ...own.map((one) => fromKiln(one, source, lines))];
  // Errors first, so that a flood of warnings cannot push them out; the sort is stable.
  return all.sort((a, b) => rank(a) - rank(b)).slice(0, MAX_DIAGNOSTICS).map(({ parse, vague, hinted, offset, ...kept }) => kept);
}

/** What a transform refused. json-as says where in the last line of its error's stack. */
export function refused(error, text) {
  const lines = new Lines(text);
  const stack = String(error.stack);
  const place = /^([^]*?)\n\s+at function\.ts:(\d+):(\d+)\s*$/.exec(stack);
  const named = /^Class (\w+) is missing/.exec(error.message);
  const wanted = named ? new RegExp(`\\bclass\\s+${named[1]}\\b`) : /@(?:json|serializable)\b|\bJSON\b/;
  const start = place ? lines.offset(Number(place[2]), Number(place[3])) : firstUse(wanted, text);
  const message = sentence((place?.[1] ?? error.message).replace(/ in function$/, ""));
  return finish(lines, { severity: "ERROR", code: "KILN003", message, start, end: null });
}

/** More levels than the compiler can follow. */
export function tooDeep(offset, text) {
  const message = `This nests deeper than ${MAX_DEPTH} levels: use variables for parts of long expressions, and functions for inner blocks.`;
  return finish(new Lines(text), { severity: "ERROR", code: "KILN005", message, start: offset, end: null });
}

/** What nests without end only once it is compiled. */
export function stackEnded(text) {
  const message =
    "The AssemblyScript compiler ran out of stack over this file. " +
    "Most often a generic type or function contains itself with another type each time, or classes extend each other hundreds of times.";
  return finish(new Lines(text), { severity: "ERROR", code: "KILN006", message, start: 0, end: null });
}

/** A fault inside the compiler, told without its stack. */
export function crashed(error, text) {
  const said = String(error?.message ?? "no module came out").split("\n")[0];
  const message = `The AssemblyScript compiler crashed: ${said}. This is a fault of the compiler, met with a file that few people would write.`;
  return finish(new Lines(text), { severity: "ERROR", code: "KILN900", message, start: 0, end: null });
}

function isError(diagnostic) {
  return SEVERITIES[diagnostic.category] === "ERROR";
}

function fromAsc(diagnostic, source, lines) {
  const range = [diagnostic.range, diagnostic.relatedRange].find((one) => one && one.source === source);
  const origin = range === diagnostic.range ? null : diagnostic.range?.source?.normalizedPath;
  const start = range?.start ?? firstUse(/\bJSON\s*\.\s*(?:parse|stringify)\b/, lines.text);
  const end = range?.end ?? null;
  const message = readable(diagnostic.message);
  const hint = hintFor(diagnostic.code, { message, ...lines.around(start, end ?? start) });
  const parts = [sentence(origin ? `${message.replace(/\.$/, "")} (in ${origin})` : message), hint].filter(Boolean);
  return {
    ...finish(lines, {
      severity: SEVERITIES[diagnostic.category] ?? "ERROR",
      code: codeText(diagnostic.code),
      message: parts.join(" "),
      start,
      end,
    }),
    parse: diagnostic.code >= 1000 && diagnostic.code < 2000,
    // What a value of no type lacks, and a return that an unknown statement hides, follow from something else.
    vague: diagnostic.code === 2355 || / type 'auto'/.test(message),
    hinted: hint !== null,
    offset: start,
  };
}

function fromKiln({ code, range, message, word }, source, lines) {
  const own = range?.source === source ? range : null;
  const start = own?.start ?? (word ? firstUse(new RegExp(`\\b${word.replace(/\W/g, "")}\\b`), lines.text) : 0);
  return finish(lines, { severity: "ERROR", code, message, start, end: own?.end ?? null });
}

function finish(lines, { severity, code, message, start, end }) {
  const from = lines.position(start);
  const to = end === null ? null : lines.position(end);
  return {
    severity,
    line: from.line,
    column: from.column,
    endLine: to?.line ?? null,
    endColumn: to?.column ?? null,
    code,
    message: escaped(message.replace(HOST_PATH, "(path)")).slice(0, MAX_MESSAGE),
    excerpt: excerpt(lines.line(from.line), from.column),
  };
}

function sentence(message) {
  return /[.!?]$/.test(message) ? message : `${message}.`;
}

/** asc's own prefixes: its codes below 1000 are its own, the others are TypeScript's. */
function codeText(code) {
  return code < 1000 ? `AS${code}` : `TS${code}`;
}

/** Types by the names that the user writes, not by the files that declare them. */
function readable(message) {
  return message.replace(/(?:~lib|function)\/(?:[\w-]+\/)*(\w+)(?![\w/.])/g, (_, name) => PLAIN_NAMES[name] ?? name);
}

const PLAIN_NAMES = { String: "string", F64: "f64", F32: "f32", I32: "i32", I64: "i64", U32: "u32", U64: "u64", Bool: "bool" };

/** Drops what only follows from an error that has advice: others of the same place, parse errors of the same line, vague ones. */
function withoutEchoes(diagnostics) {
  const advised = diagnostics.filter((one) => one.hinted && one.severity === "ERROR");
  return diagnostics.filter((one) => {
    const echo = (of) => of !== one && (of.offset === one.offset || (one.parse && of.parse && of.line === one.line) || one.vague);
    if (one.hinted) return !advised.some((of) => advised.indexOf(of) < advised.indexOf(one) && echo(of));
    return !advised.some(echo);
  });
}

function rank(diagnostic) {
  return diagnostic.severity === "ERROR" ? 0 : 1;
}

function firstUse(pattern, text) {
  return Math.max(text.search(pattern), 0);
}

function escaped(text) {
  return text.replace(UNPRINTABLE, (character) => {
    const code = character.charCodeAt(0);
    return code < 256 ? `\\x${code.toString(16).padStart(2, "0")}` : `\\u${code.toString(16).padStart(4, "0")}`;
  });
}

/** The part of a line around a column, in at most MAX_EXCERPT code points before escaping. */
function excerpt(line, column) {
  const points = [...line];
  const from = points.length <= MAX_EXCERPT ? 0 : Math.max(0, Math.min(column - MAX_EXCERPT / 2, points.length - MAX_EXCERPT));
  return escaped(points.slice(from, from + MAX_EXCERPT).join(""));
}

/** Lines of a text as asc counts them: ended by a line feed and by nothing else. */
class Lines {
  constructor(text) {
    this.text = text;
    this.starts = [0];
    for (let at = text.indexOf("\n"); at >= 0; at = text.indexOf("\n", at + 1)) this.starts.push(at + 1);
  }

  position(offset) {
    const bounded = Math.min(Math.max(offset, 0), this.text.length);
    let low = 0;
    for (let high = this.starts.length - 1; low < high; ) {
      const middle = (low + high + 1) >> 1;
      if (this.starts[middle] <= bounded) low = middle;
      else high = middle - 1;
    }
    return { line: low + 1, column: codePoints(this.text.slice(this.starts[low], bounded)) + 1 };
  }

  line(number) {
    const end = this.starts[number] ?? this.text.length + 1;
    return this.text.slice(this.starts[number - 1], end - 1).replace(/\r$/, "");
  }

  /** The offset of a line and a column that counts UTF-16 units, as asc's do. */
  offset(line, column) {
    return (this.starts[line - 1] ?? 0) + column - 1;
  }

  /** What a range points at, and the rest of its line on either side, cut to a length that patterns are quick on. */
  around(start, end) {
    const { line } = this.position(start);
    const from = Math.max(this.starts[line - 1], start - 100);
    const to = Math.min(this.starts[line] ?? this.text.length, end + 100);
    return { text: this.text.slice(start, Math.min(end, start + 200)), before: this.text.slice(from, start), after: this.text.slice(end, to) };
  }
}

function codePoints(text) {
  let count = 0;
  for (const _ of text) count++;
  return count;
}
