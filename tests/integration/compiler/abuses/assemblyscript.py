"""What hostile sources in AssemblyScript try, and what comes of it. The words of an expectation are those of test_abuses.py."""

from typing import Final

_PLAIN: Final = "export function handle(input: string): string { return input; }\n"


def _answering(expression: str) -> str:
    return f"export function handle(input: string): string {{ return {expression}; }}\n"


def _nested(opening: str, middle: str, closing: str, times: int) -> str:
    return opening * times + middle + closing * times


ABUSES: Final[dict[str, tuple[str, tuple[str, str]]]] = {
    # Files
    "a file of the host": ('import "%HOST%";\n' + _PLAIN, ("COMPILE_ERROR", "one file")),
    "a file of the host, by steps up": ('import "../../../../../../etc/passwd";\n' + _PLAIN, ("COMPILE_ERROR", "one file")),
    "a file of the folder for temporary files": ('export * from "%TMP%";\n' + _PLAIN, ("COMPILE_ERROR", "one file")),
    "a file of the repository": ('import * as all from "%REPOSITORY%/Makefile";\n' + _PLAIN, ("COMPILE_ERROR", "one file")),
    "the jail's environment": ('import "/proc/1/environ";\n' + _PLAIN, ("COMPILE_ERROR", "one file")),
    "the compiler's environment": ('import "/proc/self/environ";\n' + _PLAIN, ("COMPILE_ERROR", "one file")),
    "the request": ('import "/dev/stdin";\n' + _PLAIN, ("COMPILE_ERROR", "one file")),
    "a file without end": ('import "/dev/urandom";\n' + _PLAIN, ("COMPILE_ERROR", "one file")),
    "a file of the driver": ('import "./build.mjs";\n' + _PLAIN, ("COMPILE_ERROR", "one file")),
    "a file of a package": ('import "assemblyscript/package.json";\n' + _PLAIN, ("COMPILE_ERROR", "one file")),
    "a file beside json-as": ('import { JSON } from "json-as/../../build";\n' + _PLAIN, ("COMPILE_ERROR", "one file")),
    "a file beside the library": ('import "~lib/../../../../build.mjs";\n' + _PLAIN, ("COMPILE_ERROR", "one file")),
    "a module of Node": ('import { readFileSync } from "node:fs";\n' + _answering("readFileSync(input)"), ("COMPILE_ERROR", "one file")),
    "a reference path": ('/// <reference path="%HOST%" />\n' + _PLAIN, ("COMPILES", "")),
    "a source map": ("//# sourceMappingURL=%HOST%\n" + _PLAIN, ("COMPILES", "")),
    # Code in the compiler
    "a decorator of its own": (
        "function evil(target: string): string { return process.env.CANARY; }\n@evil class A {}\n" + _PLAIN,
        ("COMPILES", ""),
    ),
    "code for the transform": (
        '@json class A { @alias("`+process.mainModule.require(`fs`).readFileSync(`/proc/1/environ`)+`") a: string = ""; }\n'
        + _answering("JSON.stringify(new A())"),
        ("COMPILES", ""),
    ),
    "a string that ends in the transform's code": (
        '@json class A { @alias("\\\\\\"); unreachable(); //") a: string = ""; }\n' + _answering("JSON.stringify(new A())"),
        ("COMPILES", ""),
    ),
    "names of JavaScript's own objects": (
        "@json class constructor { __proto__: i32 = 1; toString: i32 = 2; hasOwnProperty: i32 = 3; }\n"
        + _answering("JSON.stringify(new constructor())"),
        ("COMPILES", ""),
    ),
    "a class named __proto__": (
        "@json class __proto__ { polluted: i32 = 1; }\n" + _answering("JSON.stringify(new __proto__())"),
        ("COMPILES", ""),
    ),
    "a function named after one of the transform's": (
        "@json class A { __SERIALIZE(p: usize): void { unreachable(); } __INITIALIZE(): this { return this; } }\n"
        + _answering("JSON.stringify(new A())"),
        ("COMPILES", ""),
    ),
    # Imports and exports
    "an import of WASI": (
        '@external("wasi_snapshot_preview1", "fd_write") declare function write(a: i32, b: i32, c: i32, d: i32): i32;\n'
        + _answering("write(1, 0, 0, 0).toString()"),
        ("COMPILE_ERROR", '"wasi_snapshot_preview1"."fd_write"'),
    ),
    "an import from anywhere": (
        '@external("evil", "memory") declare const x: i32;\n' + _answering("x.toString()"),
        ("COMPILE_ERROR UNKNOWN_IMPORT", '"evil"'),
    ),
    "an import of another type": (
        '@external("env", "abort") declare function stop(a: f64): f64;\n' + _answering("stop(1).toString()"),
        ("UNKNOWN_IMPORT", "abort"),
    ),
    "an export called memory": (
        "function grow(): i32 { return 1; }\nexport { grow as memory };\n" + _PLAIN,
        ("COMPILE_ERROR INVALID_ABI COMPILER_CRASHED COMPILES", ""),
    ),
    "an export of the collector's": (
        "export function __new(size: usize, id: u32): usize { return 0; }\nexport function __pin(p: usize): usize { return 0; }\n" + _PLAIN,
        ("COMPILES", ""),
    ),
    "an export of a vector": ("export function wide(v: v128): v128 { return v; }\n" + _PLAIN, ("COMPILE_ERROR", "")),
    # Processor time
    "types that double": (
        "class P<A, B> {}\nfunction f<T>(n: i32): void { f<P<T, T>>(n - 1); }\n" + "f<i32>(99);\n" + _PLAIN,
        ("ENDS", ""),
    ),
    "types that contain themselves": ("class A<T> { next: A<A<T>> = new A<A<T>>(); }\nnew A<i32>();\n" + _PLAIN, ("ENDS", "")),
    "inlining that doubles": (
        "@inline function f0(n: i32): i32 { return n + 1; }\n"
        + "".join(f"@inline function f{n}(a: i32): i32 {{ return f{n - 1}(a) + f{n - 1}(a); }}\n" for n in range(1, 40))
        + _answering("f39(1).toString()"),
        ("COMPILE_TIMEOUT COMPILE_MEMORY", ""),
    ),
    "parentheses": (_answering(_nested("(", "input", ")", 100_000)), ("COMPILE_ERROR", "500 levels")),
    "blocks": (_nested("{", "", "}", 100_000) + _PLAIN, ("COMPILE_ERROR", "500 levels")),
    "operators": (_answering("!" * 100_000 + "input"), ("COMPILE_ERROR", "500 levels")),
    "a sum without end": (_answering("+".join(["input"] * 100_000)), ("COMPILE_ERROR", "500 levels")),
    "lists of lists": ("let a: " + _nested("Array<", "i32", ">", 20_000) + " | null = null;\n" + _PLAIN, ("COMPILE_ERROR", "500 levels")),
    "templates in templates": (_answering(_nested("`${", "input", "}`", 5_000)), ("COMPILE_ERROR", "500 levels")),
    "many functions": (
        "".join(f"export function f{n}(): i32 {{ return {n}; }}\n" for n in range(2_000)) + _PLAIN,
        ("COMPILES", ""),
    ),
    # Memory
    "memory for nothing": ("const p = memory.data(2000000000);\n" + _answering("p.toString()"), ("COMPILE_MEMORY", "512 MiB")),
    "a string of a megabyte": (_answering('"' + "x" * 1_000_000 + '"'), ("COMPILES", "")),
    "a list of many numbers": ("const all: StaticArray<f64> = [" + "0.5," * 200_000 + "];\n" + _PLAIN, ("COMPILES", "")),
    # Output
    "a module of ten megabytes": (
        "const p = memory.data<u8>([1]);\nconst q = memory.data(9000000);\n" + _answering("(p + q).toString()"),
        ("COMPILES", ""),
    ),
    "errors without end": ("".join(f"missing{n};\n" for n in range(50_000)) + _PLAIN, ("COMPILE_ERROR", "missing0")),
    "a name of a megabyte": ("x" * 1_000_000 + ";\n" + _PLAIN, ("COMPILE_ERROR", "xxxx")),
    "a line of a megabyte": (_PLAIN.strip() + " " * 900_000 + "nope;", ("COMPILE_ERROR", "nope")),
    "a type of a megabyte in an error": ("let a: " + "x" * 900_000 + " = 1;\n" + _PLAIN, ("COMPILE_ERROR", "xxxx")),
    # Characters
    "escape sequences in a message": ('import "\x1b[2J\x1b]0;title\x07\x9b31m";\n' + _PLAIN, ("COMPILE_ERROR", "one file")),
    "escape sequences by escapes": ('import "\\x1b[2J\\u009b31m\\u{202e}";\n' + _PLAIN, ("COMPILE_ERROR", "one file")),
    "markup in a message": ('import "<script>alert(1)</script>";\n' + _PLAIN, ("COMPILE_ERROR", "<script>")),
    "letters that run backwards": ("\u202enope\u2066;\n" + _PLAIN, ("COMPILE_ERROR", "")),
    "halves of characters": ('const a = "\\ud800\\udc00\\ud800"; import "./\\udfff";\n' + _PLAIN, ("COMPILE_ERROR", "one file")),
    "zeros": ("nope\0nope;\n" + _PLAIN, ("COMPILE_ERROR", "")),
    "a mark in the middle": ("let a = 1;\ufeffnope;\n" + _PLAIN, ("COMPILE_ERROR", "nope")),
    "line ends of every kind": ("// a\u2028\u2029\x85\x0b\x0c\r\n\rnope;\n" + _PLAIN, ("COMPILE_ERROR", "nope")),
    "nothing": ("", ("COMPILE_ERROR", "handle")),
}
