"""Guests in the text format that speak AssemblyScript's ABI: strings of UTF-16LE behind a bump allocator."""

import hashlib
from dataclasses import dataclass

from wasmtime import wat2wasm

ABI = "assemblyscript"

_SIGNATURES = {
    "abort": "(param i32 i32 i32 i32)",
    "trace": "(param i32 i32 f64 f64 f64 f64 f64)",
    "seed": "(result f64)",
    "Date.now": "(result f64)",
    "performance.now": "(result f64)",
    "process.exit": "(param i32)",
    "console.assert": "(param i32 i32)",
}
_RUNTIME = """
(global $top (mut i32) (i32.const 32768))
(func $new (export "__new") (param $size i32) (param $class i32) (result i32) (local $at i32)
  (local.set $at (i32.add (global.get $top) (i32.const 20)))
  (global.set $top (i32.and (i32.add (i32.add (local.get $at) (local.get $size)) (i32.const 15)) (i32.const -16)))
  (if (i32.gt_u (global.get $top) (i32.shl (memory.size) (i32.const 16)))
    (then (drop (memory.grow (i32.add (i32.shr_u (local.get $size) (i32.const 16)) (i32.const 1))))))
  (i32.store (i32.sub (local.get $at) (i32.const 4)) (local.get $size))
  (local.get $at))
(func (export "__pin") (param i32) (result i32) (local.get 0))
"""


@dataclass(frozen=True)
class Module:
    """A module and its name."""

    wasm: bytes
    abi: str = ABI

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.wasm).hexdigest()


def module(wat: str, abi: str = ABI) -> Module:
    """A whole module from its text."""
    return Module(bytes(wat2wasm(wat)), abi)


def guest(handle: str, *parts: str, imports: tuple[str, ...] = (), memory: str = "1", texts: dict[int, str] | None = None) -> Module:
    """A guest whose `handle(input: i32): i32` has this body.

    Args:
        handle: The body; the input's address is local 0, locals 1 and 2 are free i32.
        parts: More fields of the module.
        imports: Names of functions of `env` to import, callable as `$name`.
        memory: Limits of the memory, in pages.
        texts: Strings by address; each takes four bytes before it for its size.
    """
    imported = "".join(f'(import "env" "{name}" (func ${name} {_SIGNATURES.get(name, "(param i32)")}))' for name in imports)
    data = "".join(string_at(address, text.encode("utf-16-le")) for address, text in (texts or {}).items())
    return module(
        f"""(module {imported} (memory (export "memory") {memory}) {_RUNTIME} {data} {" ".join(parts)}
        (func (export "handle") (param i32) (result i32) (local i32 i32) {handle}))"""
    )


def string_at(address: int, utf16: bytes) -> str:
    """A data segment with a string."""
    raw = len(utf16).to_bytes(4, "little") + utf16
    return f'(data (i32.const {address - 4}) "{"".join(f"{chr(92)}{byte:02x}" for byte in raw)}")'


def answering(text: str) -> Module:
    """A guest that always answers with this text."""
    return guest("(i32.const 1024)", texts={1024: text}, memory=str(2 + 2 * len(text) // 65536))


ECHO = guest("(local.get 0)")
ENDLESS = guest("(loop (br 0)) (unreachable)")
TRAPPING = guest("(unreachable)")

# Does what its input says: 4 bytes are the address of a string, 4 are its size, which is stored before it where that is in the memory,
# and the rest is stored from 1024 on. Prints that string and answers with it.
OBEDIENT = guest(
    """(local.set 1 (i32.shr_u (i32.sub (i32.load (i32.sub (local.get 0) (i32.const 4))) (i32.const 36)) (i32.const 2)))
    (loop (if (local.get 1) (then
      (local.set 1 (i32.sub (local.get 1) (i32.const 1)))
      (i32.store8 offset=1024 (local.get 1)
        (call $byte (i32.add (local.get 0) (i32.add (i32.const 34) (i32.shl (local.get 1) (i32.const 2))))))
      (br 1))))
    (local.set 2 (call $word (i32.add (local.get 0) (i32.const 2))))
    (if (i32.le_u (i32.sub (local.get 2) (i32.const 4)) (i32.const 65532))
      (then (i32.store (i32.sub (local.get 2) (i32.const 4)) (call $word (i32.add (local.get 0) (i32.const 18))))))
    (call $console.log (local.get 2)) (local.get 2)""",
    """(func $byte (param i32) (result i32)
      (i32.or (i32.shl (i32.sub (i32.load16_u (local.get 0)) (i32.const 97)) (i32.const 4))
        (i32.sub (i32.load16_u offset=2 (local.get 0)) (i32.const 97))))
    (func $word (param i32) (result i32)
      (i32.or
        (i32.or (call $byte (local.get 0)) (i32.shl (call $byte (i32.add (local.get 0) (i32.const 4))) (i32.const 8)))
        (i32.or (i32.shl (call $byte (i32.add (local.get 0) (i32.const 8))) (i32.const 16))
          (i32.shl (call $byte (i32.add (local.get 0) (i32.const 12))) (i32.const 24)))))""",
    imports=("console.log",),
)


def order(address: int, size: int, data: bytes = b"") -> str:
    """Input for `OBEDIENT`: each byte as two letters from a to p, which are valid JSON in a string."""
    said = address.to_bytes(4, "little") + size.to_bytes(4, "little") + data
    return '"' + "".join(chr(97 + (byte >> 4)) + chr(97 + (byte & 15)) for byte in said) + '"'
