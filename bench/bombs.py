"""Source to READY while bombs of others are built, against the same while as many innocent sources are."""

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from typing import Final

import httpx

from bench.figures import p50, p95, ratio, seconds, table
from bench.platform import credential

# Others that build one source after the other, each of a function of its own.
_OTHERS: Final = 4
_PAUSE_SECONDS: Final = 0.3

_TYPESCRIPT: Final = "export function handle(input: string): string {{ return `${{input}} {number}`; }}\n"
_C: Final = "char *handle(const char *input) {{ return {number} ? (char *)input : 0; }}\n"
_CPP: Final = "#include <string>\nstd::string handle(std::string_view input) {{ return std::string(input) + std::to_string({number}); }}\n"
_GO: Final = "package main\nfunc Handle(input []byte) ([]byte, error) {{ println({number}); return input, nil }}\n"
_ZIG: Final = (
    'const std = @import("std");\npub fn handle(_: std.mem.Allocator, input: []const u8) ![]const u8 {{\n'
    "    if (input.len == {number}) return error.Same;\n    return input;\n}}\n"
)
_INLINED: Final = "@inline function f0(n: i32): i32 {{ return n + {number}; }}\n" + "".join(
    f"@inline function f{n}(a: i32): i32 {{{{ return f{n - 1}(a) + f{n - 1}(a); }}}}\n" for n in range(1, 40)
)
_SELF_CONTAINED: Final = "class A<T> {{ constructor() {{ new A<A<T>>(); }} }}\nnew A<i32>();\n"
_INCLUDED: Final = "#if __INCLUDE_LEVEL__ < 150\n#include __FILE__\n#include __FILE__\n#endif\n"
_MULTIPLIED: Final = "#define A1 1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+\n" + "".join(
    f"#define A{n} " + f"A{n - 1} " * 16 + "\n" for n in range(2, 9)
)
_DOUBLED: Final = (
    "template <int N, unsigned long M> struct A {{ static constexpr int k = A<N - 1, 2 * M>::k + A<N - 1, 2 * M + 1>::k; }};\n"
    "template <unsigned long M> struct A<0, M> {{ static constexpr int k = 1; }};\nint k = A<40, 1>::k;\n"
)
_NESTED: Final = "type P[A any] struct {{ a, b A }}\nvar x " + "P[" * 60 + "int" + "]" * 60 + "\n"
_LOOP: Final = "comptime {{\n    @setEvalBranchQuota(4294967295);\n    var n: u64 = 0;\n    while (true) n +%= 1;\n}}\n"
# Kind of bomb → language, an innocent source and the bomb, both with a number that makes each source another.
_KINDS: Final[Mapping[str, tuple[str, str, str]]] = {
    "AssemblyScript, processor": ("assemblyscript", _TYPESCRIPT, _INLINED + "let n = f39(1);\n" + _TYPESCRIPT),
    "AssemblyScript, memory": ("assemblyscript", _TYPESCRIPT, "memory.data(2000000000);\n" + _TYPESCRIPT),
    "AssemblyScript, nesting": ("assemblyscript", _TYPESCRIPT, "let n = " + "(" * 20_000 + "{number}" + ")" * 20_000 + ";\n" + _TYPESCRIPT),
    "AssemblyScript, stack": ("assemblyscript", _TYPESCRIPT, _SELF_CONTAINED + _TYPESCRIPT),
    "C, processor": ("c", _C, _INCLUDED + _C),
    "C, memory": ("c", _C, _MULTIPLIED + "int big = A8 1;\n" + _C),
    "C++, processor and memory": ("cpp", _CPP, _DOUBLED + _CPP),
    "Go, processor": ("go", _GO, _GO + _NESTED),
    "Zig, processor": ("zig", _ZIG, _ZIG + _LOOP),
}


def measure(client: httpx.Client, rounds: int) -> Iterator[str]:
    """A table for each kind of bomb."""
    numbers = count(time.time_ns() % 10**9)
    for kind, (language, innocent, bomb) in _KINDS.items():
        # What the platform does once, such as starting compilers, is over then.
        for one in (language, "assemblyscript"):
            _build(client, one, innocent if one == language else _TYPESCRIPT, next(numbers))
        theirs = _beside(client, language, innocent, rounds, numbers)
        ours = _beside(client, language, bomb, rounds, numbers)
        picks = (("p50", p50), ("p95", p95))
        rows = [[name, seconds(pick(ours)), seconds(pick(theirs)), ratio(pick(ours), pick(theirs))] for name, pick in picks]
        yield table([kind, f"beside {_OTHERS} who build bombs", f"beside {_OTHERS} who build the like of it", "ratio"], rows)


def _beside(client: httpx.Client, language: str, load: str, rounds: int, numbers: Iterator[int]) -> list[float]:
    """Seconds of each build, of sources that nobody has compiled before, while others build theirs."""
    times = []
    with _others(client, language, load, numbers):
        for _ in range(rounds):
            began = time.perf_counter()
            _build(client, "assemblyscript", _TYPESCRIPT, next(numbers), wanted="READY")
            times.append(time.perf_counter() - began)
            time.sleep(_PAUSE_SECONDS)
    return times


@contextmanager
def _others(client: httpx.Client, language: str, source: str, numbers: Iterator[int]) -> Iterator[None]:
    """Others build one source after the other while the block runs; at its end their last builds have ended."""
    stop = threading.Event()

    def one_after_the_other() -> None:
        with httpx.Client(base_url=client.base_url, headers=credential(client), timeout=60) as own:
            while not stop.is_set():
                _build(own, language, source, next(numbers))

    threads = [threading.Thread(target=one_after_the_other) for _ in range(_OTHERS)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def _build(client: httpx.Client, language: str, source: str, number: int, *, wanted: str = "") -> None:
    """Builds a source, to its end.

    Raises:
        SystemExit: It ended in another way than was wanted.
    """
    body = {"name": f"bombs-{number}", "language": language, "source": source.format(number=number)}
    client.post("/functions", json=body).raise_for_status()
    while True:
        function = client.get(f"/functions/bombs-{number}").raise_for_status().json()
        if function["status"] in ("READY", "FAILED"):
            break
        time.sleep(0.01)
    if wanted and function["status"] != wanted:
        raise SystemExit(f"an innocent source was not built: {function['compileError']}")
