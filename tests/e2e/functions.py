"""Functions that scenarios call: name → source and limits."""

from typing import Final

Limits = dict[str, int]

_HANDLE = "export function handle(input: string): string"

SOURCES: Final[dict[str, tuple[str, Limits]]] = {
    "echo": (f"{_HANDLE} {{ return input; }}", {"memoryMb": 256, "maxOutputBytes": 4 << 20}),
    "sum": (
        f"""@json
class Numbers {{
  a: i32 = 0;
  b: i32 = 0;
}}

{_HANDLE} {{
  const numbers = JSON.parse<Numbers>(input);
  return JSON.stringify(numbers.a + numbers.b);
}}""",
        {},
    ),
    "counter": (f"let calls: i32 = 0;\n{_HANDLE} {{ calls++; return calls.toString(); }}", {}),
    "thrower": (f"{_HANDLE} {{\n  throw new Error('no such customer: ' + input);\n}}", {}),
    "trap": (f"{_HANDLE} {{ unreachable(); return input; }}", {}),
    "divide": (f"{_HANDLE} {{ return (1 / <i32>parseInt(input)).toString(); }}", {}),
    "endless": (f"{_HANDLE} {{ while (true) {{}} return input; }}", {"timeoutMs": 300}),
    "slow": (
        f"""{_HANDLE} {{
  const until = Date.now() + <i64>parseInt(input);
  while (Date.now() < until) {{}}
  return "true";
}}""",
        {"timeoutMs": 20_000},
    ),
    "recursive": (f"function down(n: i32): i32 {{ return n + down(n + 1) * 2; }}\n{_HANDLE} {{ return down(0).toString(); }}", {}),
    "hog": (
        f"""{_HANDLE} {{
  const kept: ArrayBuffer[] = [];
  while (true) kept.push(new ArrayBuffer(1 << 20));
  return input;
}}""",
        {"memoryMb": 16},
    ),
    "huge": (f"{_HANDLE} {{ return '\"' + 'x'.repeat(3000000) + '\"'; }}", {}),
    "surrogate": (f"{_HANDLE} {{ return '\"' + String.fromCharCode(0xd800) + '\"'; }}", {}),
    "plain": (f"{_HANDLE} {{ return 'not json'; }}", {}),
    "quits": (f"{_HANDLE} {{ process.exit(3); return input; }}", {}),
    "chatty": (
        f"""{_HANDLE} {{
  console.log("started");
  console.warn("careful");
  console.error("line one\\nline two");
  trace("numbers", 2, 1.5, 2.5);
  return "null";
}}""",
        {},
    ),
    "flood": (f"{_HANDLE} {{ for (let i = 0; i < 100000; i++) console.log(i.toString()); return 'null'; }}", {}),
}
