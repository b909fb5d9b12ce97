"""Zig as people write it: what is wrong with it, what it does when it fails, and what it may use."""

import json
from collections.abc import Mapping
from typing import Final

import pytest

from services.compiler.hot import HotProcesses
from services.compiler.languages import Bounds, Compiled
from services.compiler.languages.zig import Zig
from services.executor.sandbox import ErrorType, Limits, Sandbox
from services.executor.sandbox.outcome import Level
from tests.integration.compiler.compiling import MACHINE, Fault, Mistake, answer, bounds, built, do, errors, expect, failed, there

STD: Final = 'const std = @import("std");\n'
EMPTY: Final = 'pub fn handle(_: @import("std").mem.Allocator, _: []const u8) ![]const u8 {\n    return "1";\n}\n'
SIGNATURE: Final = "`pub fn handle(allocator: std.mem.Allocator, input: []const u8) ![]const u8`"
MISSING: Final = f"The file does not define {SIGNATURE}, which Kiln calls."


def body(statements: str) -> str:
    """A function of these statements, which uses none of its parameters, from line 3 on."""
    return f"{STD}pub fn handle(_: std.mem.Allocator, _: []const u8) ![]const u8 {{\n    {statements}\n}}\n"


def handle(parameters: str, result: str) -> str:
    """A handle of this type, in line 2, that does nothing."""
    return f"{STD}pub fn handle({parameters}) {result} {{\n    unreachable;\n}}\n"


MISTAKES: Final[Mapping[str, tuple[str, int, int, str]]] = {
    "a missing semicolon": (body('return "1"'), 3, 15, "expected ';' after statement"),
    "a missing bracket": (body("")[:-2], 4, 1, "expected statement, found 'EOF'"),
    "an undeclared name": (body("return nope;"), 3, 12, "use of undeclared identifier 'nope'"),
    "a wrong type": (body('const n: u32 = "x"; _ = n; return "1";'), 3, 20, "expected type 'u32', found '*const [1:0]u8'"),
    "a wrong type in a constant that is used": (
        'const n: u32 = "x";\n' + body("_ = n; return &.{};"),
        1,
        16,
        "expected type 'u32', found '*const [1:0]u8'",
    ),
    "an unused variable": (body('const n = 1; return "1";'), 3, 11, "unused local constant"),
    "an unused parameter": (f"{STD}pub fn handle(a: std.mem.Allocator, _: []const u8) ![]const u8 {{ unreachable; }}\n", 2, 15, "unused"),
    "a variable that never varies": (body('var n: u32 = 1; _ = n; return "1";'), 3, 9, "note: consider using 'const' (line 3)"),
    "a forgotten try": (
        "fn fallible() !u32 {\n    return error.Nope;\n}\n" + body('const n: u32 = fallible(); _ = n; return "1";'),
        6,
        28,
        "expected type 'u32', found '!u32'\nnote: cannot convert error union to payload type",
    ),
    "an error that the type does not have": (
        body("return error.Nope;").replace(") ![]", ") error{Other}![]"),
        3,
        18,
        "note: 'error.Nope' not a member of destination error set",
    ),
    "an unhandled case": (
        "const Way = enum { up, down };\n" + body('const way: Way = .up; switch (way) { .up => {} } return "1";'),
        4,
        27,
        "note: unhandled enumeration value: 'down' (line 1)",
    ),
    "a member that is not there": (body("return std.nope();"), 3, 15, "'std' has no member named 'nope'"),
    "a missing argument of a format": (body('std.log.info("{s}", .{}); return "1";'), 3, 17, "too few arguments"),
    "a mistake inside of an algorithm": (
        "const P = struct { x: u32 };\n"
        + body('var list = [_]P{.{ .x = 1 }};\n    std.mem.sort(P, &list, {}, std.sort.asc(P)); return "1";'),
        5,
        17,
        "operator < not allowed for type 'function.P'\nnote: struct declared here (line 1)",
    ),
    "a mistake inside of a generic function of one's own": (
        "fn total(it: anytype) u32 {\n    return it.nope();\n}\n" + body('_ = total(@as(u32, 1)); return "1";'),
        2,
        14,
        "no field or member function named 'nope' in 'u32'",
    ),
    "a value that cannot be JSON": (
        body("return std.json.Stringify.valueAlloc(std.heap.wasm_allocator, .{ .f = handle }, .{});"),
        3,
        41,
        "Unable to stringify type 'fn (mem.Allocator, []const u8) ![]const u8'",
    ),
    "an overflow while compiling": (
        body('const n: u8 = 255 + 1; _ = n; return "1";'),
        3,
        23,
        "type 'u8' cannot represent integer value '256'",
    ),
    "a type that contains itself": (
        "const A = struct { a: A };\n" + body('_ = @as(A, undefined); return "1";'),
        1,
        23,
        "'function.A' depends on itself",
    ),
    "types that contain each other": (
        "const A = struct { b: B };\nconst B = struct { a: A };\n" + body('_ = @as(A, undefined); return "1";'),
        1,
        23,
        "dependency loop with length 2\n"
        "note: type 'function.A' depends on type 'function.B' for field declared here (line 1)\n"
        "note: type 'function.B' depends on type 'function.A' for field declared here (line 2)",
    ),
    "values that need each other": ("const a = b;\nconst b = a;\n" + body('_ = a; return "1";'), 1, 11, "dependency loop with length 2"),
    "an instruction that is none": (body('asm volatile ("nope"); return "1";'), 3, 5, "<inline asm>:1:2: invalid instruction"),
    "a variable that is nowhere": (
        "extern var nope: u32;\n" + body('nope += 1; return if (nope == 0) "1" else "2";'),
        1,
        12,
        "`nope` is declared but not defined.",
    ),
    "a variable that the linker cannot have": (f"{EMPTY}export var __stack_pointer: u32 = 1;\n", 1, 1, "invalid global symbol index"),
    "an error of one's own": (body('@compileError("on purpose: " ++ "\u00e9");'), 3, 5, "on purpose: \u00e9"),
    "an error that begins as Kiln's own": (body('@compileError("kiln: on purpose");'), 3, 5, "kiln: on purpose"),
    "a log of the compiler's": (body('@compileLog(1); return "1";'), 3, 5, "found compile log statement"),
    "another file": (body('_ = @import("other.zig"); return "1";'), 3, 17, 'unable to load "other.zig": FileNotFound'),
    "a package": (body('_ = @import("zap"); return "1";'), 3, 17, "no module named 'zap' available within module 'function'"),
    "a file of the machine's": (body('return @embedFile("/etc/passwd");'), 3, 23, "embed of file outside package path"),
    "Kiln's own file": (body('_ = @import("../zig/kiln.zig"); return "1";'), 3, 17, "import of file outside module path"),
    "the C library": (body('_ = std.c.malloc(1); return "1";'), 3, 14, "dependency on libc must be explicitly specified"),
    "a thread": (
        body('const t = try std.Thread.spawn(.{}, work, .{}); t.join(); return "1";') + "fn work() void {}\n",
        3,
        35,
        "Cannot spawn thread when building in single-threaded mode",
    ),
    "no handle": ("pub fn main() void {}\n", 1, 1, MISSING),
    "an empty file": ("", 1, 1, MISSING),
    "a handle that is not public": (f"// handle\n{EMPTY.replace('pub fn', 'fn')}", 2, 4, MISSING),
    "no handle, and something else": (
        'comptime {\n    const n: u32 = "x";\n    _ = n;\n}\n',
        1,
        1,
        MISSING,
    ),
    "a handle of one parameter": (
        f"// handle\n{handle('_: []const u8', '![]const u8')}",
        3,
        8,
        f"`handle` has type `fn ([]const u8) ![]const u8`; it must be {SIGNATURE}.",
    ),
    "a handle of another parameter": (
        handle("_: std.mem.Allocator, _: []u8", "![]const u8"),
        2,
        8,
        "`handle` has type `fn (mem.Allocator, []u8) ![]const u8`",
    ),
    "a handle of any parameters": (handle("_: anytype, _: anytype", "![]const u8"), 2, 8, "has type `fn (anytype, anytype) ![]const u8`"),
    "a handle of another result": (
        handle("_: std.mem.Allocator, _: []const u8", "!u32"),
        2,
        8,
        "`handle` has type `fn (mem.Allocator, []const u8) !u32`",
    ),
    "a handle of no result": (
        handle("_: std.mem.Allocator, _: []const u8", "void"),
        2,
        8,
        "has type `fn (mem.Allocator, []const u8) void`",
    ),
    "a handle that may have no result": (handle("_: std.mem.Allocator, _: []const u8", "?[]const u8"), 2, 8, f"it must be {SIGNATURE}"),
    "a handle of a struct": (handle("_: std.mem.Allocator, _: []const u8", "!struct { x: u32 }"), 2, 8, f"it must be {SIGNATURE}"),
    "a handle that is no function": ("pub const handle = 3;\n", 1, 11, "`handle` has type `comptime_int`"),
    "a handle that points to a function": (EMPTY.replace("handle", "real") + "pub const handle = &real;\n", 4, 11, "has type `*const fn ("),
    "two functions of a name": (EMPTY + EMPTY, 1, 8, "duplicate struct member name 'handle'\nnote: duplicate name here (line 4)"),
    "a name of Kiln's": (f"{EMPTY}export fn kiln_alloc() void {{}}\n", 4, 1, "`kiln_alloc` is a name of Kiln's own"),
    "an exported handle beside it": (
        EMPTY + 'comptime {\n    @export(&other, .{ .name = "handle" });\n}\nfn other() callconv(.c) void {}\n',
        5,
        5,
        "`handle` is a name of Kiln's own",
    ),
    "an error behind wide characters": (body('_ = "\U0001f600\u00e9"; return nope;'), 3, 22, "'nope'"),
    "an error behind tabs and line ends of Windows": (
        "\r\n" + EMPTY.replace("    return", "\t\treturn").replace('"1"', "nope").replace("\n", "\r\n"),
        3,
        10,
        "'nope'",
    ),
    "an error behind a byte order mark": ("\ufeffconst n = nope;\n" + EMPTY, 1, 11, "'nope'"),
    "a handle behind a byte order mark": ("\ufeffpub const handle = 3;", 1, 11, "`handle` has type `comptime_int`"),
    "an error in a last line without an end": (EMPTY + "const n = nope; // here", 4, 11, "'nope'"),
    "a control character": (EMPTY + "// \x1b[31m\n", 4, 4, r"comment contains invalid byte: '\x1b'"),
    "NUL": (EMPTY + "\0", 3, 2, "invalid token"),
}

FAULTS: Final[Mapping[str, Fault]] = {
    "an error": ("return error.NoSuchCustomer;", ErrorType.ABORT, "NoSuchCustomer"),
    "an error of the library's": ('_ = try std.fmt.parseInt(u8, "x", 10);', ErrorType.ABORT, "InvalidCharacter"),
    "kiln.fail": ('kiln.fail("no such customer: \u00e9");', ErrorType.ABORT, "no such customer: \u00e9"),
    "an index out of bounds": (
        "const list = [_]u8{ 1, 2, 3 }; list_length = list[five];",
        ErrorType.ABORT,
        "panic: index out of bounds: index 5, len 3",
    ),
    "a slice out of bounds": ("return input[0 .. input.len + five];", ErrorType.ABORT, "panic: index out of bounds: index "),
    "an overflow": ("five *= 1 << 30; five *= 4;", ErrorType.ABORT, "panic: integer overflow"),
    "a number that does not fit": ("const n: u8 = @intCast(five * 100); five = n;", ErrorType.ABORT, "panic: integer does not fit"),
    "a division by zero": ("five = 1 / (five - 5);", ErrorType.ABORT, "panic: division by zero"),
    "unreachable": ("if (five == 5) unreachable;", ErrorType.ABORT, "panic: reached unreachable code"),
    "a panic": ('@panic("on purpose");', ErrorType.ABORT, "panic: on purpose"),
    "a panic with values": ('std.debug.panic("{d} is {s}", .{ five, "five" });', ErrorType.ABORT, "panic: 5 is five"),
    "a long panic": ('std.debug.panic("{s}", .{&long});', ErrorType.ABORT, "panic: xxx"),
    "a failed assertion": ("std.debug.assert(five == 4);", ErrorType.ABORT, "panic: reached unreachable code"),
    "null": ("var n: ?u32 = null; if (five == 4) n = 1; five = n.?;", ErrorType.ABORT, "panic: attempt to use null value"),
    "an unwrapped error": ("five = fallible(five) catch unreachable;", ErrorType.ABORT, "panic: attempt to unwrap error: Nope"),
    "another member of a union": (
        "var u: Number = .{ .whole = five }; if (five == 4) u = .{ .real = 1 }; five = @trunc(u.real);",
        ErrorType.ABORT,
        "panic: access of union field 'real' while field 'whole' is active",
    ),
    "an exit": ("std.process.exit(3);", ErrorType.EXIT, "exit code 3"),
    "an abort": ("std.process.abort();", ErrorType.TRAP, "unreachable"),
    "memory that grows": ("while (true) (try allocator.alloc(u8, 1 << 20))[0] = 1;", ErrorType.OUT_OF_MEMORY, "64 MiB"),
    "more memory than there is": ("return allocator.alloc(u8, five << 28);", ErrorType.OUT_OF_MEMORY, "64 MiB"),
    "an endless recursion": ("five = down(five);", ErrorType.STACK_OVERFLOW, "too deep"),
    "an array that is larger than the stack": (
        "five = wide(five);",
        ErrorType.STACK_OVERFLOW,
        "too deep",
    ),
    "an endless loop": ("while (true) five ^= 1;", ErrorType.TIMEOUT, "ran longer"),
    "text that is no JSON": ('return "not json";', ErrorType.INVALID_OUTPUT, "not valid JSON"),
    "an empty text": ('return "";', ErrorType.INVALID_OUTPUT, "not valid JSON"),
    "JSON that cannot be read": ('_ = try std.json.parseFromSliceLeaky(u8, allocator, "{", .{});', ErrorType.ABORT, "UnexpectedToken"),
}

# Statements, and what they answer.
ANSWERS: Final[Mapping[str, tuple[str, str]]] = {
    "a variable of the environment": ('return text(allocator, try kiln.env(allocator, "GREETING"));', '"Hello, J\u00f6rg"'),
    "no variable": ('return text(allocator, try kiln.env(allocator, "NOPE"));', "null"),
    "the time": ("return text(allocator, kiln.nowMs() > 1_700_000_000_000);", "true"),
    "randomness": (
        "var a: [16]u8 = @splat(0); var b = a; kiln.random(&a); kiln.random(&b); return text(allocator, !std.mem.eql(u8, &a, &b));",
        "true",
    ),
    "no bytes of randomness": ("kiln.random(&.{}); return text(allocator, 1);", "1"),
    "a counter": ("calls += 1; return text(allocator, calls);", "1"),
    "large integers": (
        "return text(allocator, .{ @as(i64, -9007199254740993), @as(u64, 18446744073709551615) });",
        "[-9007199254740993,18446744073709551615]",
    ),
    "wide integers": ("return text(allocator, @as(u128, five) << 100);", str(5 << 100)),
    "maps": (
        "var map: std.AutoHashMap(u32, u32) = .init(allocator); try map.put(five, 6); return text(allocator, map.get(5));",
        "6",
    ),
    "lists": (
        "var list: std.ArrayList(u32) = .empty; for (0..five) |n| try list.append(allocator, n); return text(allocator, list.items);",
        "[0,1,2,3,4]",
    ),
    "an error that is caught": ("return text(allocator, fallible(five) catch 7);", "7"),
    "vectors": ("const v: @Vector(4, u32) = @splat(five); return text(allocator, @reduce(.Add, v));", "20"),
}

TOP: Final = """\
const kiln = @import("kiln");
const Number = union(enum) { whole: u32, real: f32 };
const long: [3000]u8 = @splat('x');
var calls: u32 = 0;
var list_length: usize = 0;

fn text(allocator: std.mem.Allocator, value: anytype) ![]const u8 {
    return std.json.Stringify.valueAlloc(allocator, value, .{});
}

fn fallible(n: u32) !u32 {
    return if (n == 5) error.Nope else n;
}

fn down(n: u32) u32 {
    return if (n == 0) 0 else down(n +% 1) *% 3 ^ n;
}

noinline fn wide(n: u32) u32 {
    var big: [60 << 20]u8 = undefined;
    std.mem.doNotOptimizeAway(&big);
    big[n] = 1;
    return big[n * 2];
}

pub fn handle(allocator: std.mem.Allocator, input: []const u8) ![]const u8 {
    const deed = try kiln.env(allocator, "DEED") orelse "";
    var five: u32 = @intCast(deed.len);
    five = five - @as(u32, @intCast(deed.len)) + 5;
"""
LOGS: Final = """std.debug.print("one\\ntwo", .{});
        std.debug.print(" and a half\\n", .{});
        std.log.debug("detail {d}", .{five});
        std.log.info("logged \u00e9", .{});
        std.log.warn("careful", .{});
        std.log.scoped(.shop).err("bad", .{});
        kiln.log(.warn, "plain");
        std.log.info("{s}\u00e9", .{long ++ long});
        std.debug.print("three", .{});"""


def program() -> str:
    """One function that does each of these, whichever its environment names."""
    deeds = {name: fault[0] for name, fault in FAULTS.items()} | {name: statements for name, (statements, _) in ANSWERS.items()}
    deeds |= {"logs": LOGS, "failed log": f"{LOGS} return error.Failed;", "echo": "return input;"}
    cases = [f"    if (std.mem.eql(u8, deed, {json.dumps(name)})) {{\n        {statements}\n    }}\n" for name, statements in deeds.items()]
    return STD + TOP + "".join(cases) + '    return "null";\n}\n'


@pytest.fixture(scope="module")
def zig(compilers: HotProcesses) -> Zig:
    """The language."""
    return there(Zig(compilers))


@pytest.fixture(scope="module")
async def deeds(zig: Zig) -> Compiled:
    """The function that does it all."""
    return await built(zig, program())


async def test_the_starter_greets(zig: Zig, sandbox: Sandbox) -> None:
    outcome = await answer(sandbox, await built(zig, zig.starter), '{"name":"Kiln"}')

    assert outcome.output == b'{"message":"Hello, Kiln!"}'


@pytest.mark.parametrize("mistake", MISTAKES)
async def test_it_is_told_where_there_is(zig: Zig, mistake: str) -> None:
    source, line, column, words = MISTAKES[mistake]
    told: Mistake = (source, line, column, None, words)

    await expect(zig, told)


async def test_what_else_is_wrong_is_told_beside_a_missing_handle(zig: Zig) -> None:
    outcome = await failed(zig, MISTAKES["no handle, and something else"][0])

    assert [(one.line, one.message.splitlines()[0]) for one in errors(outcome)] == [
        (1, MISSING),
        (2, "expected type 'u32', found '*const [1:0]u8'"),
    ]


@pytest.mark.parametrize(
    "source",
    [
        pytest.param(EMPTY.replace("![]const", "[]const"), id="without an error"),
        pytest.param(EMPTY.replace("![]const", "error{Nope}![]const"), id="with errors of its own"),
        pytest.param(EMPTY.replace("![]const", "anyerror![]const"), id="with any error"),
        pytest.param(EMPTY.replace("![]const u8", "*const [1]u8"), id="of an array"),
        pytest.param(EMPTY.replace("![]const u8", "![:0]const u8"), id="of a text that ends with a zero"),
        pytest.param(
            EMPTY.replace("![]const u8", "![]u8").replace('"1"', "&one") + "var one = [_]u8{'1'};\n", id="of bytes that may change"
        ),
        pytest.param(EMPTY.replace("pub fn", "pub inline fn"), id="inline"),
        pytest.param(EMPTY.replace("pub fn handle", "fn real") + "pub const handle = real;\n", id="of another name"),
        pytest.param(EMPTY.rstrip(), id="without an end of its last line"),
        pytest.param("\ufeff" + EMPTY.replace("\n", "\r\n"), id="as Windows writes it"),
    ],
)
async def test_it_calls_a_handle(zig: Zig, sandbox: Sandbox, source: str) -> None:
    outcome = await answer(sandbox, await built(zig, source))

    assert outcome.output == b"1"


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_call_fails_with(deeds: Compiled, sandbox: Sandbox, fault: str) -> None:
    _, kind, words = FAULTS[fault]

    outcome = await do(sandbox, deeds, fault, timeout_ms=300 if kind is ErrorType.TIMEOUT else 20_000)

    assert outcome.error is not None
    assert (outcome.error.type, words in outcome.error.message) == (kind, True), outcome.error
    assert [place for place in MACHINE if place in outcome.error.message] == []


@pytest.mark.parametrize("deed", ANSWERS)
async def test_a_function_has(deeds: Compiled, sandbox: Sandbox, deed: str) -> None:
    outcome = await do(sandbox, deeds, deed)

    assert outcome.output is not None, outcome.error
    assert outcome.output.decode() == ANSWERS[deed][1]


@pytest.mark.parametrize("deed", ["logs", "failed log"])
async def test_what_it_prints_is_its_log_to_the_last_character(deeds: Compiled, sandbox: Sandbox, deed: str) -> None:
    outcome = await do(sandbox, deeds, deed)

    assert [(line.level, line.message) for line in outcome.logs] == [
        (Level.ERROR, "one"),
        (Level.ERROR, "two and a half"),
        (Level.DEBUG, "detail 5"),
        (Level.INFO, "logged \u00e9"),
        (Level.WARN, "careful"),
        (Level.ERROR, "shop: bad"),
        (Level.WARN, "plain"),
        (Level.INFO, 6000 * "x" + "\u00e9"),
        (Level.ERROR, "three"),
    ]


async def test_a_second_call_finds_nothing_of_the_first(deeds: Compiled, sandbox: Sandbox) -> None:
    first, second = await do(sandbox, deeds, "a counter"), await do(sandbox, deeds, "a counter")

    assert (first.output, second.output) == (b"1", b"1")


@pytest.mark.parametrize("text", ["[9007199254740993,18446744073709551615,1.10,-0.0]", r'"\u0000"', '{"\u00e9":"\U0001f600"}'])
async def test_text_passes_untouched(deeds: Compiled, sandbox: Sandbox, text: str) -> None:
    outcome = await do(sandbox, deeds, "echo", text)

    assert outcome.output == text.encode()


async def test_names_of_the_adapters_are_free(zig: Zig, sandbox: Sandbox) -> None:
    names = "pub const panic = 1;\npub const std_options = 2;\npub fn main() void {}\npub fn kiln_alloc() void {}\nfn run() void {}\n"

    outcome = await answer(sandbox, await built(zig, names + "const kiln = 3;\nexport fn _start() void {}\n" + EMPTY))

    assert outcome.output == b"1"


async def test_two_megabytes_are_enough_for_a_small_function(zig: Zig, sandbox: Sandbox) -> None:
    outcome = await answer(sandbox, await built(zig, zig.starter), limits=Limits(memory_mb=2))

    assert outcome.output == b'{"message":"Hello, world!"}'


@pytest.mark.parametrize(
    ("source", "limits", "reason", "words"),
    [
        pytest.param(
            "const data: [20 << 20]u8 = @splat(1);\n" + EMPTY.replace('"1"', "&data"),
            bounds(),
            "COMPILE_OUTPUT",
            "module has 2",
            id="a large module",
        ),
        pytest.param("export var data: [600 << 20]u8 = undefined;\n" + EMPTY, bounds(), "COMPILE_OUTPUT", "large array", id="a large file"),
        pytest.param(
            "export var data: [60 << 20]u8 = @splat(1);\n" + EMPTY, bounds(memory_bytes=400 << 20), "COMPILE_MEMORY", "400 MiB", id="memory"
        ),
        pytest.param(
            "comptime {\n    @setEvalBranchQuota(4_000_000_000);\n    var n: u64 = 0;\n    while (true) n += 1;\n}\n" + EMPTY,
            bounds(wall_seconds=2),
            "COMPILE_TIMEOUT",
            "2 seconds",
            id="time",
        ),
        pytest.param(
            "const n = nope;\n" + EMPTY,
            bounds(output_bytes=10),
            "COMPILE_OUTPUT",
            "The compiler said more than 10 bytes",
            id="words",
        ),
        pytest.param(f"const n = {'(' * 100_000};\n{EMPTY}", bounds(), "COMPILER_CRASHED", "The Zig compiler crashed", id="a crash"),
    ],
)
async def test_a_build_passes_a_bound_and_names_it(zig: Zig, source: str, limits: Bounds, reason: str, words: str) -> None:
    outcome = await failed(zig, source, limits)

    assert outcome.reason == reason
    assert words in outcome.diagnostics[0].message
    assert (outcome.diagnostics[0].line, outcome.diagnostics[0].column) == (1, 1)


async def test_an_error_that_is_said_twice_is_told_once(zig: Zig) -> None:
    outcome = await failed(zig, MISTAKES["a variable that is nowhere"][0])

    assert len(outcome.diagnostics) == 1


async def test_errors_without_number_are_cut_to_a_few(zig: Zig) -> None:
    outcome = await failed(zig, "".join(f"const n{number} = nope{number};\n" for number in range(5000)) + EMPTY)

    assert 20 <= len(errors(outcome)) <= 100


async def test_a_megabyte_of_comments_compiles(zig: Zig) -> None:
    comment = "// \U0001f600 filler\n"

    await built(zig, comment * ((1 << 20) // len(comment.encode())) + EMPTY)


async def test_the_same_source_gives_the_same_bytes_in_each_process(zig: Zig) -> None:
    first, second = await built(zig, zig.starter), await built(zig, zig.starter)

    assert first.wasm == second.wasm


async def test_a_module_names_no_place_on_this_machine(deeds: Compiled) -> None:
    assert [place for place in MACHINE if place.encode() in deeds.wasm] == []
