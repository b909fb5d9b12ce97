// What to write instead, for the things that people coming from TypeScript try first.

// Each row: asc's code, a test of the place, advice. The first row that fits is taken.
// A place has `message` (asc's), `text` (what is pointed at), `before` and `after` (the rest of its line).
const ROWS = [
  [100, /closures/i, "AssemblyScript has no closures yet: pass the value as a parameter or keep it in a global or a class field."],
  [100, { text: /^undefined$/ }, "There is no undefined: use null, and the type `T | null` for references."],
  [100, /union types/i, "A value has one type. Only `T | null` is possible, for references; use a class, or generics, for the rest."],
  [100, /regular expressions/i, "There are no regular expressions: compare with indexOf, startsWith, split or charCodeAt."],
  [100, /exceptions/i, "There is no try/catch: a throw ends the run as a failure. Check first, or return a result that tells of the error."],
  [100, /iterators/i, "Count instead: for (let i = 0; i < list.length; i++). Maps and sets give arrays by keys() and values()."],
  [100, /spread/i, "Use concat, slice or push instead of spreading."],
  [100, /interface hidden classes/i, "An object literal needs a class: declare the interface as a class, or write `new`."],
  [1109, { text: /^async$/ }, "There is no async: a function runs to its end and returns its value directly."],
  [1109, { text: /^await$/ }, "There is no await: call the function directly."],
  [1109, { text: /^import$/, after: /^\s*\(/ }, "There are no dynamic imports: a function is one file."],
  [1109, { text: /^\.$/, before: /\?$/ }, "There is no optional chaining: compare with null first, as in `a !== null ? a.b : other`."],
  [1109, { text: /^\?$/, before: /\?$/ }, "There is no `??`: write `a !== null ? a : other`."],
  [1003, { text: /^(?:const|let|var)$/, after: /^\s*[{[]/ }, "There is no destructuring: read each field or element by itself."],
  [1003, { before: /function\s*$/, after: /^\s*\*/ }, "There are no generators: build an array and return it."],
  [1155, { after: /^\s+in\b/ }, "There is no for...in: objects have the fields of their class. Use a Map and its keys()."],
  [1005, { after: /^\s+in\b/ }, "There is no for...in: objects have the fields of their class. Use a Map and its keys()."],
  [1110, { text: /^\{$/ }, "There are no types of object literals: declare a class."],
  [1110, { text: /^\[$/ }, "There are no tuples: declare a class, or use an array of one type."],
  [1110, {}, "Parameters, results and fields need a type, for example `: string` or `: i32`."],
  [2304, { text: /^any$|^unknown$|^object$/ }, "There are no dynamic types: name the type, or use generics. JSON of unknown shape is a JSON.Value."],
  [2304, { text: /^Promise$/ }, "There are no promises: a function runs to its end and returns its value directly."],
  [2304, { text: /^undefined$/ }, "There is no undefined: use null, and the type `T | null` for references."],
  [2304, { text: /^require$/ }, "There are no packages to require: a function is one file. JSON is there without an import."],
  [2304, { text: /^fetch$|^XMLHttpRequest$|^WebSocket$/ }, "Functions have no network: what they need comes in as input."],
  [2304, { text: /^setTimeout$|^setInterval$|^queueMicrotask$/ }, "There are no timers: a function runs to its end and answers."],
  [2304, { text: /^Record$|^Partial$|^Pick$|^Omit$|^Readonly$/ }, "There are no mapped types: declare a class, or use Map<string, T>."],
  [2304, { text: /^Buffer$|^TextEncoder$|^TextDecoder$/ }, "Use String.UTF8.encode and String.UTF8.decode."],
  [2304, { text: /^Intl$/ }, "There is no Intl: format numbers and dates by hand."],
  [2322, /'<object>'/, "An object literal needs a class: declare one and give the variable its type."],
  [2322, /^Type '(.+) \| null' is not assignable to type '\1'/, "Compare with null first and keep the value in a constant, or write `value!` where it cannot be null."],
  [2322, { before: /\benum\b[^}]*$/ }, "Enums hold whole numbers: use constants for text."],
  [2322, /^Type 'string' is not assignable to type '[iuf]\d+'/, "Numbers are read by i32.parse(text) or f64.parse(text)."],
  [2322, /^Type '[iuf]\d+' is not assignable to type 'string'/, "Numbers become text by value.toString()."],
  [2339, { text: /^forEach$/ }, "Callbacks cannot use variables around them; loop over keys() or values() with an index."],
  [2339, { text: /^toFixed$/ }, "There is no toFixed: keep amounts in whole cents, or round with Math.round(x * 100) / 100."],
  [2339, { text: /^toLocaleString$|^padZero$/ }, "Format by hand, for example with toString() and padStart."],
  [2339, /'Regex|RegExp/i, "There are no regular expressions: compare with indexOf, startsWith, split or charCodeAt."],
  [2554, { text: /^console\.\w+/ }, "The console takes one string: build it with a template, `${a} ${b}`."],
  [6054, {}, "A function is one file; the only package is json-as, and JSON is there without an import."],
];

function fits(test, place) {
  if (test instanceof RegExp) return test.test(place.message);
  return Object.entries(test).every(([part, pattern]) => pattern.test(place[part]));
}

/** Advice for one error of asc, or null. */
export function hintFor(code, place) {
  return ROWS.find(([of, test]) => of === code && fits(test, place))?.[2] ?? null;
}
