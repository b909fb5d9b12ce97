"""Guests in the text format that speak UTF-8: functions of the kiln ABI, and WASI commands."""

from collections.abc import Iterable, Mapping

from libs.common.abi import KILN, WASI_COMMAND, Signature
from tests.integration.executor.guests import Module, module

WASI = "wasi_snapshot_preview1"

_ALLOCATOR = """
(global $top (mut i32) (i32.const 32768))
(func (export "kiln_alloc") (param $size i32) (result i32) (local $at i32)
  (local.set $at (global.get $top))
  (global.set $top (i32.add (local.get $at) (local.get $size)))
  (if (i32.gt_u (global.get $top) (i32.shl (memory.size) (i32.const 16)))
    (then (drop (memory.grow (i32.add (i32.shr_u (local.get $size) (i32.const 16)) (i32.const 1))))))
  (local.get $at))
"""
# A text as `handle` returns it, and a number as such a text.
_ANSWERS = """
(func $text (param $at i32) (param $size i32) (result i64)
  (i64.or (i64.shl (i64.extend_i32_u (local.get $at)) (i64.const 32)) (i64.extend_i32_u (local.get $size))))
(func $number (param $n i32) (result i64) (local $at i32)
  (local.set $at (i32.const 32000))
  (loop $next
    (local.set $at (i32.sub (local.get $at) (i32.const 1)))
    (i32.store8 (local.get $at) (i32.add (i32.const 48) (i32.rem_u (local.get $n) (i32.const 10))))
    (br_if $next (local.tee $n (i32.div_u (local.get $n) (i32.const 10)))))
  (call $text (local.get $at) (i32.sub (i32.const 32000) (local.get $at))))
"""


def kiln(
    handle: str, *parts: str, imports: Iterable[str] = (), memory: str = "1", texts: Mapping[int, str | bytes] | None = None
) -> Module:
    """A guest whose `handle(input: i32, size: i32): i64` has this body.

    Args:
        handle: The body; the input is local 0 and its size local 1, locals 2 and 3 are free i32. `$text` and `$number` make results.
        parts: More fields of the module.
        imports: Names of functions to import, callable as `$name`.
        memory: Limits of the memory, in pages. From 32 KiB on the input lies there.
        texts: Bytes by address.
    """
    return module(
        f"""(module {_imported(imports)} (memory (export "memory") {memory}) {_ALLOCATOR} {_ANSWERS} {_data(texts)} {" ".join(parts)}
        (func (export "handle") (param i32 i32) (result i64) (local i32 i32) {handle}))""",
        KILN.name,
    )


def command(
    start: str, *parts: str, imports: Iterable[str] = (), memory: str = "1", texts: Mapping[int, str | bytes] | None = None
) -> Module:
    """A WASI command whose `_start` has this body; locals 0 to 3 are free i32, and `fd_write` and `fd_read` are there."""
    wanted = dict.fromkeys(("fd_write", "fd_read", *imports))
    return module(
        f"""(module {_imported(wanted)} (memory (export "memory") {memory}) {_data(texts)} {" ".join(parts)}
        (func (export "_start") (local i32 i32 i32 i32) {start}))""",
        WASI_COMMAND.name,
    )


def say(fd: int, address: int, size: int) -> str:
    """Writes a piece of memory to a stream; the first 16 bytes of the memory are used for it."""
    return f"""(i32.store (i32.const 0) (i32.const {address})) (i32.store (i32.const 4) (i32.const {size}))
        (drop (call $fd_write (i32.const {fd}) (i32.const 0) (i32.const 1) (i32.const 8)))"""


def printing(*said: tuple[int, str | bytes], then: str = "", imports: Iterable[str] = ()) -> Module:
    """A command that writes texts to streams, and does something."""
    texts: dict[int, bytes] = {}
    steps, at = [], 1024
    for fd, text in said:
        texts[at] = text.encode() if isinstance(text, str) else text
        steps.append(say(fd, at, len(texts[at])))
        at += len(texts[at])
    return command("".join(steps) + then, imports=imports, texts=texts, memory=str(1 + at // 65_536))


def leaving(code: int, *said: tuple[int, str | bytes]) -> Module:
    """A command that writes texts to streams and ends with an exit code."""
    return printing(*said, then=f"(call $proc_exit (i32.const {code}))", imports=("proc_exit",))


def calling(source: str, name: str, arguments: Mapping[str, int] | Iterable[int]) -> Module:
    """A kiln guest that calls one import and answers with what that returned, or with 0.

    Args:
        source: The import's module.
        name: The import's name.
        arguments: One for each parameter, or one for each type.
    """
    signature = KILN.imports[source, name]
    given = [arguments[kind] for kind in signature.params] if isinstance(arguments, Mapping) else list(arguments)
    pushed = " ".join(f"({kind}.const {value})" for kind, value in zip(signature.params, given, strict=True))
    called = f"(call ${name} {pushed})"
    if not signature.results:
        return kiln(f"{called} (call $number (i32.const 0))", imports=(name,))
    return kiln(f"(call $number {f'(i32.wrap_i64 {called})' if signature.results == ('i64',) else called})", imports=(name,))


def _imported(names: Iterable[str]) -> str:
    return "".join(
        f'(import "{source}" "{name}" (func ${name} {_type(signature)}))'
        for wanted in names
        for (source, name), signature in KILN.imports.items()
        if name == wanted
    )


def _type(signature: Signature) -> str:
    return f"(param {' '.join(signature.params)}) (result {' '.join(signature.results)})"


def _data(texts: Mapping[int, str | bytes] | None) -> str:
    return "".join(f'(data (i32.const {at}) "{_escaped(text)}")' for at, text in (texts or {}).items())


def _escaped(text: str | bytes) -> str:
    return "".join(f"{chr(92)}{byte:02x}" for byte in (text.encode() if isinstance(text, str) else text))


# Answers with its input.
ECHO = kiln("(call $text (local.get 0) (local.get 1))")
COMMAND_ECHO = command(
    """(loop $more
      (i32.store (i32.const 0) (i32.const 1024)) (i32.store (i32.const 4) (i32.const 60000))
      (drop (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
      (i32.store (i32.const 4) (i32.load (i32.const 8)))
      (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 12)))
      (br_if $more (i32.load (i32.const 8))))"""
)
# Asks for an hour of sleep.
SLEEPING = command(
    """(i32.store (i32.const 1040) (i32.const 1)) (i64.store (i32.const 1048) (i64.const 3600000000000))
    (drop (call $poll_oneoff (i32.const 1024) (i32.const 2048) (i32.const 1) (i32.const 8)))""",
    imports=("poll_oneoff",),
)
