"""Zig as people write it: what is wrong with it, what it does when it fails, and what it may use."""

import json
from collections.abc import Mapping
from typing import Final

import pytest

from services.compiler.hot import HotProcesses
from services.compiler.languages import Compiled
from services.compiler.languages.zig import Zig
from services.executor.sandbox import ErrorType, Limits, Sandbox
from services.executor.sandbox.outcome import Level
from tests.integration.compiler.compiling import MACHINE, Fault, answer, built, do, there

STD: Final = 'const std = @import("std");\n'
EMPTY: Final = 'pub fn handle(_: @import("std").mem.Allocator, _: []const u8) ![]const u8 {\n    return "1";\n}\n'


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


async def test_a_megabyte_of_comments_compiles(zig: Zig) -> None:
    comment = "// \U0001f600 filler\n"

    await built(zig, comment * ((1 << 20) // len(comment.encode())) + EMPTY)


async def test_the_same_source_gives_the_same_bytes_in_each_process(zig: Zig) -> None:
    first, second = await built(zig, zig.starter), await built(zig, zig.starter)

    assert first.wasm == second.wasm


async def test_a_module_names_no_place_on_this_machine(deeds: Compiled) -> None:
    assert [place for place in MACHINE if place.encode() in deeds.wasm] == []
