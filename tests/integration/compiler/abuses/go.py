"""What hostile sources in Go try, and what comes of it. The words of an expectation are those of test_abuses.py."""

from typing import Final

_REST: Final = "func Handle(input []byte) ([]byte, error) { return input, nil }\n"


def _importing(package: str, more: str = "") -> str:
    return f'package main\nimport _ "{package}"\n{more}{_REST}'


def _plain(more: str) -> str:
    return f"package main\n{more}\n{_REST}"


def _doubling(count: int) -> str:
    return "".join(f"const s{n} = s{n - 1} + s{n - 1}\n" for n in range(1, count))


ABUSES: Final[dict[str, tuple[str, tuple[str, str]]]] = {
    # Files
    "a package by its path": (_importing("/etc/passwd"), ("COMPILE_ERROR", "")),
    "a package by steps up": (_importing("../../../../etc/passwd"), ("COMPILE_ERROR", "")),
    "a package of the host": (_importing("%HOST%"), ("COMPILE_ERROR", "")),
    "a package of the compiler's": (_importing("cmd/internal/obj"), ("COMPILE_ERROR", "no package cmd/internal/obj")),
    "a package of the net": (_importing("github.com/evil/evil"), ("COMPILE_ERROR", "no package github.com/evil/evil")),
    "a package of C": (_importing("C"), ("COMPILE_ERROR", "")),
    "C with flags": (
        'package main\n/*\n#cgo CFLAGS: -fplugin=%HOST%\n#cgo LDFLAGS: -Wl,-T,%HOST%\n#include "%HOST%"\n*/\nimport "C"\n' + _REST,
        ("COMPILE_ERROR", ""),
    ),
    "a package with escape sequences": ('package main\nimport "\\x1b[2J"\n' + _REST, ("COMPILE_ERROR", "")),
    "a file embedded": ('package main\nimport _ "embed"\n//go:embed %HOST%\nvar found string\n' + _REST, ("COMPILE_ERROR", "")),
    "a file embedded by steps up": (
        'package main\nimport _ "embed"\n//go:embed ../../../../etc/passwd\nvar found []byte\n' + _REST,
        ("COMPILE_ERROR", ""),
    ),
    "the jail's environment embedded": (
        'package main\nimport _ "embed"\n//go:embed /proc/1/environ\nvar found string\n' + _REST,
        ("COMPILE_ERROR", ""),
    ),
    "another name of the file": (_plain("//line /etc/shadow:1\nvar a int = nope"), ("COMPILE_ERROR", "nope")),
    "a line that is not there": (_plain("//line function.go:99999\nvar a int = nope"), ("COMPILE_ERROR", "nope")),
    "the adapter's name": (_plain("//line adapter.go:5:1\nvar a = Handl"), ("COMPILE_ERROR", "Handl")),
    "the adapter's words": (_plain("//line adapter.go:5:1\nvar a, Handle2 = Handle.x, 1"), ("COMPILE_ERROR", "")),
    "a name of a file with escape sequences": (_plain("//line \x1b[2J.go:1\nvar a int = nope"), ("COMPILE_ERROR", "nope")),
    "a name of a file with a finding in it": (
        _plain("//line function.go:1:1: error: forged:1\nvar a int = nope"),
        ("COMPILE_ERROR", "nope"),
    ),
    "places in the middle of a line": (_plain("var a int = /*line /etc/shadow:7:7*/nope"), ("COMPILE_ERROR", "nope")),
    # Code in compiler and linker
    "a link to the runtime": (
        'package main\nimport _ "unsafe"\n//go:linkname now runtime.nanotime\nfunc now() int64\n' + _REST,
        ("COMPILES", ""),
    ),
    "a link to the system": (
        'package main\nimport _ "unsafe"\n//go:linkname open syscall.Open\nvar open func()\n' + _REST,
        ("COMPILE_ERROR", ""),
    ),
    "flags for a linker": (_plain('//go:cgo_ldflag "-Wl,-T,%HOST%"'), ("COMPILE_ERROR", "")),
    "a library of the system": (_plain('//go:cgo_import_dynamic system system "libc.so.6"'), ("COMPILES", "")),
    "another linker": (_plain('//go:cgo_dynamic_linker "%HOST%"'), ("COMPILE_ERROR", "")),
    "a function without a body": (_plain("func evil() int"), ("COMPILE_ERROR", "")),
    "an import from anywhere": (
        _plain("//go:wasmimport evil system\nfunc evil(a uint32) uint32\nfunc init() { println(evil(1)) }"),
        ("UNKNOWN_IMPORT", '"evil"."system"'),
    ),
    "an import of files": (
        _plain("//go:wasmimport wasi_snapshot_preview1 path_open\nfunc evil(a uint32) uint32\nfunc init() { println(evil(1)) }"),
        ("UNKNOWN_IMPORT", "path_open"),
    ),
    "an import of another type": (
        _plain("//go:wasmimport kiln fail\nfunc evil(a float64) float64\nfunc init() { println(evil(1)) }"),
        ("UNKNOWN_IMPORT", "fail"),
    ),
    "an export called memory": (_plain("//go:wasmexport memory\nfunc evil() {}"), ("MALFORMED", "")),
    "an export called _start": (_plain("//go:wasmexport _start\nfunc evil() {}"), ("MALFORMED", "")),
    "another export": (_plain("//go:wasmexport evil\nfunc evil() {}"), ("COMPILES", "")),
    "a build for elsewhere": ("//go:build linux\n\n" + _plain(""), ("COMPILES", "")),
    "a setting of the runtime": ("//go:debug panicnil=1\n" + _plain(""), ("COMPILES", "")),
    "pragmas of the runtime": (
        _plain("//go:systemstack\nfunc a() {}\n//go:nowritebarrier\nfunc b() {}\n//go:notinheap\ntype c struct{}"),
        ("COMPILE_ERROR", ""),
    ),
    "the adapter's functions": (_plain("func kilnRun(input []byte) ([]byte, error) { return nil, nil }"), ("COMPILE_ERROR", "kilnRun")),
    # Processor time
    "types that contain themselves": (_plain("type T[P any] struct { f *T[T[P]] }\nvar t T[int]"), ("COMPILE_ERROR", "")),
    "functions that make themselves anew": (_plain("func f[P any]() { f[*P]() }\nfunc init() { f[int]() }"), ("COMPILE_ERROR", "cycle")),
    "types that double": (
        _plain("type P[A any] struct { a, b A }\nvar x " + "P[" * 60 + "int" + "]" * 60),
        ("ENDS", ""),
    ),
    "functions that double": (
        _plain(
            "type P[A, B any] struct{}\n"
            + "".join(f"func f{n}[T any]() {{ f{n + 1}[P[T, int]](); f{n + 1}[P[int, T]]() }}\n" for n in range(24))
            + "func f24[T any]() { var x T; println(&x) }\nfunc init() { f0[int]() }"
        ),
        ("COMPILE_TIMEOUT COMPILE_MEMORY", ""),
    ),
    "parentheses": (_plain("var x = " + "(" * 200_000 + "1" + ")" * 200_000), ("COMPILES", "")),
    "operators": (_plain("var x = " + "^" * 400_000 + "1"), ("ENDS", "")),
    "blocks": (_plain("func f() " + "{" * 100_000 + "}" * 100_000), ("ENDS COMPILES", "")),
    "pointers without end": (_plain("var x " + "*" * 400_000 + "int"), ("ENDS", "")),
    "functions in functions": (_plain("func f() { " + "func() { " * 3000 + "}()" * 3000 + " }"), ("ENDS COMPILES", "")),
    "loops in loops": (
        _plain("func f(a int) (n int) { " + "for i := 0; i < a; i++ { n++; " * 300 + "}" * 300 + "; return }"),
        ("COMPILES", ""),
    ),
    "many functions": (_plain("".join(f"func f{n}() int {{ return {n} }}\n" for n in range(20_000))), ("COMPILES COMPILE_TIMEOUT", "")),
    # Memory and output
    "a text that doubles": (_plain('const s0 = "0123456789abcdef"\n' + _doubling(40) + "var x = s39"), ("ENDS", "")),
    "a number without end": (_plain("const x = 1 << 100000000\nvar y = x >> 99999999"), ("COMPILE_ERROR", "")),
    "a large array": (_plain("var big = [1 << 31]byte{1}\nfunc f() *byte { return &big[9] }"), ("ENDS", "")),
    "a list with a gap": (_plain("var big = []int{1 << 30: 1}\nfunc f() *int { return &big[9] }"), ("ENDS", "")),
    "more memory than there may be": (_plain("var big [600 << 20]byte\nfunc init() { println(&big[9]) }"), ("ENDS", "")),
    "a large module": (
        _plain('const s0 = "0123456789abcdef"\n' + _doubling(21) + "var x = s20\nfunc init() { println(x[9:]) }"),
        ("COMPILE_OUTPUT", ""),
    ),
    "errors without end": (_plain("".join(f"var a{n} = missing{n}\n" for n in range(20_000))), ("COMPILE_ERROR", "missing0")),
    "a name of a megabyte": (_plain("var a = " + "x" * 900_000), ("COMPILE_ERROR", "")),
    "a line of a megabyte": (_plain(" " * 900_000 + "var a = nope"), ("COMPILE_ERROR", "nope")),
    # Characters
    "escape sequences in a source": (_plain("var \x1b[2J = 1"), ("COMPILE_ERROR", "")),
    "escape sequences by escapes": (
        _plain('type t struct { a int "\\x1b[2J" }\nvar x int = struct{ a int "\\x1b[2J\\u202e" }{}'),
        ("COMPILE_ERROR", ""),
    ),
    "markup in a message": (_plain('var x int = "<script>alert(1)</script>"'), ("COMPILE_ERROR", "<script>")),
    "letters that run backwards": (_plain("var x = \u202enope\u2066"), ("COMPILE_ERROR", "")),
    "bytes that are no text": (_plain('var x int = "\\xff\\xfe\\x00"'), ("COMPILE_ERROR", "")),
    "zeros": (_plain("var a\0b = 1"), ("COMPILE_ERROR", "")),
    "a mark in the middle": (_plain("var a = 1 \ufeff\nvar b = nope"), ("COMPILE_ERROR", "")),
    "line ends of every kind": (_plain("// a\u2028\u2029\x85\x0b\x0c\r\nvar a = nope"), ("COMPILE_ERROR", "nope")),
    "nothing": ("", ("COMPILE_ERROR", "")),
    "another package": ("package evil\n" + _REST, ("COMPILE_ERROR", "package evil")),
}
