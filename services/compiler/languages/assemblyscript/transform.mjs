// Kiln's part in a build: JSON without an import, the check of `handle`, the check of imports.

import { CommonFlags, ElementKind, Node, ParameterKind, Range, ReportMode } from "assemblyscript";

const JSON_PACKAGE = "~lib/json-as";
const SIGNATURE = "export function handle(input: string): string";

/**
 * A transform class for one build.
 *
 * @param notes Gets `program` (asc's) as soon as there is one, and in `own` the errors found here: {code, range, message}.
 * @param options `usesJson`: bring in json-as; `imports`: what may be imported.
 */
export function kilnTransform(notes, { usesJson, imports }) {
  return class {
    constructor() {
      notes.program = this.program;
      if (usesJson) requestFile(this.program.parser, JSON_PACKAGE);
    }

    afterParse(parser) {
      const source = userSource(parser);
      if (usesJson && source && !declares(source, "JSON")) importJson(source);
    }

    afterInitialize(program) {
      notes.own.push(...handleErrors(program));
    }

    afterCompile() {
      notes.own.push(...importErrors(notes.program, imports), ...regexpErrors(notes.program));
    }
  };
}

/** The user's file among the sources of a program. Generated members carry its name too, but are not among them. */
export function userSource(parser) {
  return parser.sources.find((source) => source.internalPath === "function") ?? null;
}

/** Has a library file parsed as if something imported it. */
function requestFile(parser, internalPath) {
  parser.seenlog.add(internalPath);
  parser.backlog.push(internalPath);
}

function declares(source, name) {
  return source.statements.some(
    (statement) =>
      statement.name?.text === name ||
      statement.namespaceName?.text === name ||
      // Imports and variables hold a list of declarations.
      statement.declarations?.some((declaration) => declaration.name.text === name),
  );
}

/** Adds `import { JSON } from "json-as"` to the tree, not to the text: lines and columns stay the user's own. */
function importJson(source) {
  const at = new Range(0, 0);
  at.source = source;
  const declaration = Node.createImportDeclaration(Node.createIdentifierExpression("JSON", at), null, at);
  source.statements.unshift(Node.createImportStatement([declaration], Node.createStringLiteralExpression("json-as", at), at));
}

function handleErrors(program) {
  const file = program.filesByName.get("function");
  if (!file) return [];
  const handle = file.exports?.get("handle");
  if (!handle) return [missingHandle(file)];
  if (handle.kind !== ElementKind.FunctionPrototype) {
    return [bad(handle.identifierNode.range, "'handle' must be a function, not a variable or a class.")];
  }
  return signatureErrors(program, handle);
}

function bad(range, message) {
  return { code: "KILN001", range, message: `${message} Write: ${SIGNATURE}` };
}

function missingHandle(file) {
  const hidden = file.members?.get("handle");
  if (hidden) return bad(hidden.identifierNode.range, "'handle' is not exported.");
  const byDefault = file.exports?.get("default");
  if (byDefault) return bad(byDefault.identifierNode.range, "A default export is not found by its name.");
  return bad(null, "There is no function 'handle', which Kiln calls.");
}

function signatureErrors(program, handle) {
  const { parameters, returnType } = handle.functionTypeNode;
  const name = handle.identifierNode.range;
  if (handle.is(CommonFlags.Generic)) return [bad(name, "'handle' cannot be generic.")];
  if (parameters.length !== 1) return [bad(name, `'handle' takes one parameter, not ${parameters.length}.`)];
  const [parameter] = parameters;
  if (parameter.parameterKind !== ParameterKind.Default || parameter.initializer) {
    return [bad(parameter.range, "The parameter of 'handle' is always given: it cannot be optional or a rest parameter.")];
  }
  const errors = [];
  if (isOtherThanString(program, handle, parameter.type)) errors.push(bad(parameter.type.range, "The parameter of 'handle' is a string."));
  if (isOtherThanString(program, handle, returnType)) errors.push(bad(returnType.range, "'handle' returns a string."));
  return errors;
}

/** Whether a type is known and not `string`; aliases are followed, and asc itself complains of unknown types. */
function isOtherThanString(program, handle, node) {
  const type = program.resolver.resolveType(node, null, handle.parent, null, ReportMode.Swallow);
  return type !== null && type !== program.stringInstance.type;
}

function importErrors(program, allowed) {
  const known = new Set(allowed.map((pair) => pair.join("\0")));
  const errors = [];
  for (const [module, elements] of program.moduleImports) {
    for (const [name, element] of elements) {
      if (!known.has(`${module}\0${name}`)) errors.push(unknownImport(module, name, element));
    }
  }
  return errors;
}

function unknownImport(module, name, element) {
  const message =
    `unknown import ${JSON.stringify(module)}.${JSON.stringify(name)}: a function has no network, no files and nothing else of its host. ` +
    "It may use console, trace, Date.now, performance.now, Math.random, process.env and process.exit.";
  return { code: "KILN002", range: element.identifierNode?.range ?? null, message, word: name.split(".")[0] };
}

/** asc declares RegExp, and fails when it is used at run time: a class that was compiled is one that is used. */
function regexpErrors(program) {
  if (!program.instancesByName.has("~lib/regexp/RegExp")) return [];
  const message = "There are no regular expressions: compare with indexOf, startsWith, split or charCodeAt.";
  return [{ code: "KILN004", range: null, message, word: "RegExp" }];
}
