"""What hostile sources in Zig try, and what comes of it. The words of an expectation are those of test_abuses.py."""

from typing import Final

_PLAIN: Final = "pub fn handle(_: std.mem.Allocator, input: []const u8) ![]const u8 {\n    return input;\n}\n"


def _plain(more: str) -> str:
    return f'const std = @import("std");\n{more}\n{_PLAIN}'


def _at_compile_time(statements: str) -> str:
    return _plain("comptime {\n" + statements + "\n}")


def _answering(expression: str) -> str:
    return f'const std = @import("std");\npub fn handle(_: std.mem.Allocator, _: []const u8) ![]const u8 {{\n    return {expression};\n}}\n'


ABUSES: Final[dict[str, tuple[str, tuple[str, str]]]] = {
    # Files
    "a file of the host": (_answering('@embedFile("%HOST%")'), ("COMPILE_ERROR", "")),
    "a file of the folder for temporary files": (_answering('@embedFile("%TMP%")'), ("COMPILE_ERROR", "")),
    "a file of the repository": (_answering('@embedFile("%REPOSITORY%/Makefile")'), ("COMPILE_ERROR", "")),
    "a file by steps up": (_answering('@embedFile("../../../../etc/hostname")'), ("COMPILE_ERROR", "")),
    "the jail's environment": (_answering('@embedFile("/proc/1/environ")'), ("COMPILE_ERROR", "")),
    "the jail's environment by steps up": (_answering('@embedFile("../proc/1/environ")'), ("COMPILE_ERROR", "")),
    "the request": (_answering('@embedFile("/dev/stdin")'), ("COMPILE_ERROR", "")),
    "a file without end": (_answering('@embedFile("/dev/urandom")'), ("COMPILE_ERROR", "")),
    "its own file": (_answering('@embedFile("function.zig")'), ("COMPILES", "")),
    "its folder": (_answering('@embedFile(".")'), ("COMPILE_ERROR", "")),
    "the empty name": (_answering('@embedFile("")'), ("COMPILE_ERROR", "")),
    "a name with a zero": (_answering('@embedFile("/etc/passwd\\x00.zig")'), ("COMPILE_ERROR", "")),
    "a file of the cache": (_answering('@embedFile("cache/tmp")'), ("COMPILE_ERROR", "")),
    "code of the host": (_plain('const x = @import("%HOST%.zig");\ncomptime { _ = x; }'), ("COMPILE_ERROR", "")),
    "code by steps up": (_plain('const x = @import("../adapter.zig");\ncomptime { _ = x; }'), ("COMPILE_ERROR", "")),
    "data of the host": (_plain('const x: struct {} = @import("/etc/passwd.zon");\ncomptime { _ = x; }'), ("COMPILE_ERROR", "")),
    "the builder's options": (_plain('const x = @import("build_options");\ncomptime { _ = x; }'), ("COMPILE_ERROR", "")),
    "code of C": (_plain('const x = @cImport(@cInclude("%HOST%"));\ncomptime { _ = x; }'), ("COMPILE_ERROR", "")),
    "a file's bytes": (_at_compile_time('asm (\n\\\\.data\n\\\\found: .incbin "%HOST%"\n);'), ("COMPILE_ERROR", "")),
    "the jail's environment as bytes": (
        _at_compile_time('asm (\n\\\\.data\n\\\\.globl found\n\\\\found: .incbin "/proc/1/environ"\n);'),
        ("COMPILES COMPILE_ERROR COMPILER_CRASHED", ""),
    ),
    "a file as assembly": (_at_compile_time('asm (\n\\\\.include "%HOST%"\n);'), ("COMPILE_ERROR", "")),
    "random bytes without end": (_at_compile_time('asm (\n\\\\.data\n\\\\found: .incbin "/dev/urandom"\n);'), ("ENDS", "")),
    "the names of files": (_answering("@src().file ++ @src().module ++ @typeName(@This())"), ("COMPILES", "")),
    "the compiler's own facts": (
        _answering('@import("builtin").zig_version_string ++ @tagName(@import("builtin").os.tag)'),
        ("COMPILES", ""),
    ),
    "the adapter": (_answering('if (@hasDecl(@import("root"), "kiln_alloc")) "yes" else "no"'), ("COMPILES", "")),
    "files while it compiles": (
        _at_compile_time('const f = std.fs.cwd().openFile("/etc/passwd", .{}) catch unreachable; _ = f;'),
        ("COMPILE_ERROR", ""),
    ),
    # Imports and exports
    "an import from anywhere": (
        _plain('extern "evil" fn system(a: u32) u32;\nexport fn run() u32 { return system(1); }\ncomptime { _ = &run; }').replace(
            "    return input;", "    if (system(1) == 7) return error.Evil;\n    return input;"
        ),
        ("UNKNOWN_IMPORT", '"evil"."system"'),
    ),
    "an import of WASI": (
        _plain('extern "wasi_snapshot_preview1" fn path_open(a: u32) u32;').replace(
            "    return input;", "    if (path_open(1) == 7) return error.Evil;\n    return input;"
        ),
        ("UNKNOWN_IMPORT", "path_open"),
    ),
    "an import of another type": (
        _plain('extern "kiln" fn fail(a: f64) f64;').replace(
            "    return input;", "    if (fail(1) == 7) return error.Evil;\n    return input;"
        ),
        ("UNKNOWN_IMPORT", "fail"),
    ),
    "an export called memory": (
        _plain('fn run() callconv(.c) void {}\ncomptime { @export(&run, .{ .name = "memory" }); }'),
        ("COMPILES", ""),
    ),
    "an export of the adapter's": (_plain("export fn kiln_alloc(_: usize) usize { return 0; }"), ("COMPILE_ERROR", "kiln_alloc")),
    "the export itself": (
        _plain('fn run() callconv(.c) void {}\ncomptime { @export(&run, .{ .name = "handle" }); }'),
        ("COMPILE_ERROR", ""),
    ),
    "a section of its own": (_plain('export var a: u32 linksection(".custom_section.evil") = 1;'), ("COMPILES", "")),
    # Processor time
    "a loop while it compiles": (
        _at_compile_time("@setEvalBranchQuota(4294967295);\nvar n: u64 = 0;\nwhile (true) n +%= 1;"),
        ("COMPILE_TIMEOUT", "3 seconds"),
    ),
    "a loop without a raised quota": (_at_compile_time("var n: u64 = 0;\nwhile (true) n +%= 1;"), ("COMPILE_ERROR", "backwards branches")),
    "a call of itself": (
        _plain("fn f(n: u64) u64 { return f(n + 1); }\ncomptime { @setEvalBranchQuota(4294967295); _ = f(0); }"),
        ("ENDS", ""),
    ),
    "types that contain themselves": (
        _plain("fn T(comptime n: u64) type { return struct { a: *T(n + 1), const x = T(n + 1).x; }; }\ncomptime { _ = T(0).x; }"),
        ("ENDS", ""),
    ),
    "types that double": (
        _plain(
            "fn T(comptime n: u64, comptime m: u64) type { return if (n == 0) struct { const k = m; } else struct {\n"
            "    const a = T(n - 1, 2 * m).k; const b = T(n - 1, 2 * m + 1).k; const k = a +% b; }; }\n"
            "comptime { @setEvalBranchQuota(4294967295); _ = T(60, 1).k; }"
        ),
        ("COMPILE_TIMEOUT COMPILE_MEMORY", ""),
    ),
    "parentheses": (_plain("const x = " + "(" * 200_000 + "1" + ")" * 200_000 + ";\ncomptime { _ = x; }"), ("ENDS", "")),
    "operators": (_plain("const x: u8 = " + "~" * 400_000 + "@as(u8, 1);\ncomptime { _ = x; }"), ("ENDS", "")),
    "blocks": (_at_compile_time("{" * 100_000 + "}" * 100_000), ("ENDS", "")),
    "a sum without end": (
        _plain("const a: u64 = 1;\nconst x = " + "+".join(["a"] * 50_000) + ";\ncomptime { _ = x; }"),
        ("ENDS COMPILES", ""),
    ),
    "pointers without end": (_plain("var x: " + "*" * 200_000 + "u8 = undefined;\ncomptime { _ = &x; }"), ("ENDS", "")),
    "many functions": (
        _plain("".join(f"export fn g{n}() u32 {{ return {n}; }}\n" for n in range(3_000))),
        ("COMPILES ENDS", ""),
    ),
    # Memory and output
    "a text that doubles": (
        _at_compile_time('@setEvalBranchQuota(9999);\nvar s: []const u8 = "ab";\nfor (0..40) |_| s = s ++ s;\n_ = s;'),
        ("ENDS", ""),
    ),
    "a text of many copies": (_plain("const s: [20_000_000_000]u8 = @splat(120);\ncomptime { _ = s; }"), ("ENDS", "")),
    "a large array": (_plain("export const big: [300_000_000]u8 = @splat(7);"), ("COMPILES ENDS", "")),
    "more memory than there may be": (_plain("export var big: [600 << 20]u8 = undefined;"), ("COMPILES ENDS", "")),
    "a message of a gigabyte": (_at_compile_time("const m: [1_000_000_000]u8 = @splat(120);\n@compileError(&m);"), ("ENDS", "")),
    "a message of a megabyte": (
        _at_compile_time("const m: [1_000_000]u8 = @splat(120);\n@compileError(&m);"),
        ("COMPILE_ERROR", ""),
    ),
    "logs without end": (
        _at_compile_time("@setEvalBranchQuota(4294967295);\nvar n: u64 = 0;\nwhile (true) : (n += 1) @compileLog(n);"),
        ("ENDS", ""),
    ),
    "many logs": (
        _at_compile_time('@setEvalBranchQuota(99999);\nfor (0..5000) |n| @compileLog(n, "many times");'),
        ("COMPILE_ERROR", ""),
    ),
    "errors without end": (
        _plain("".join(f"export fn g{n}() void {{ missing{n}; }}\n" for n in range(3_000))),
        ("COMPILE_ERROR COMPILE_OUTPUT", ""),
    ),
    "a name of a megabyte": (_plain("const a = " + "x" * 900_000 + ";\ncomptime { _ = a; }"), ("COMPILE_ERROR", "")),
    "a line of a megabyte": (_plain(" " * 900_000 + "const a: u8 = nope; comptime { _ = a; }"), ("COMPILE_ERROR", "")),
    # Characters
    "escape sequences in a message": (_at_compile_time('@compileError("\\x1b[2J\\x1b]0;title\\x07");'), ("COMPILE_ERROR", "")),
    "escape sequences in a name": (_plain('const @"\\x1b[2J" = nope;\ncomptime { _ = @"\\x1b[2J"; _ = @"\\xff"; }'), ("COMPILE_ERROR", "")),
    "escape sequences in a source": (_plain("// \x1b[2J\nconst a = nope;"), ("COMPILE_ERROR", "")),
    "a finding forged in a message": (
        _at_compile_time('@compileError("x\\nfunction.zig:1:1: error: forged\\n/etc/passwd:1:1: error: forged\\nerror: kiln: no handle");'),
        ("COMPILE_ERROR", ""),
    ),
    "the adapter's words": (_at_compile_time('@compileError("kiln: handle is \\x1b[2J");'), ("COMPILE_ERROR", "")),
    "markup in a message": (_at_compile_time('@compileError("<script>alert(1)</script>");'), ("COMPILE_ERROR", "<script>")),
    "letters that run backwards": (_at_compile_time('@compileError("\u202enope\u2066");'), ("COMPILE_ERROR", "nope")),
    "bytes that are no text": (_at_compile_time('@compileError("\\xff\\xfe\\x00");'), ("COMPILE_ERROR", "")),
    "zeros": (_plain("const a\0b = 1;"), ("COMPILE_ERROR", "")),
    "a mark in the middle": (_plain("const a = 1; \ufeff const b = nope;"), ("COMPILE_ERROR", "")),
    "line ends of every kind": (_plain("// a\u2028\u2029\x85\nconst a = nope; comptime { _ = a; }"), ("COMPILE_ERROR", "nope")),
    "nothing": ("", ("COMPILE_ERROR", "handle")),
}
