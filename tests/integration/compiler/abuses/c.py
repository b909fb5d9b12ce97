"""What hostile sources in C try, and what comes of it. The words of an expectation are those of test_abuses.py."""

from collections.abc import Mapping
from typing import Final

_PLAIN: Final = "char *handle(const char *input) { return (char *)input; }\n"
FILES: Final[dict[str, tuple[str, tuple[str, str]]]] = {
    "a file of the host": ('#include "%HOST%"\n', ("COMPILE_ERROR", "file not found")),
    "a file of the folder for temporary files": ('#include "%TMP%"\n', ("COMPILE_ERROR", "file not found")),
    "a file of the repository": ('#include "%REPOSITORY%/Makefile"\n', ("COMPILE_ERROR", "file not found")),
    "the host's users": ("#include </etc/passwd>\n", ("COMPILE_ERROR", "file not found")),
    "a file by steps up": ('#include "../../../../../../../../../../etc/hostname"\n', ("COMPILE_ERROR", "file not found")),
    "the next file of that name": ("#include_next </etc/passwd>\n", ("COMPILE_ERROR", "file not found")),
    "a file imported": ('#import "%HOST%"\n', ("COMPILE_ERROR", "file not found")),
    "the jail's environment": ('#include "/proc/1/environ"\n', ("COMPILES", "")),
    "the compiler's environment": ('#include "/proc/self/environ"\n', ("COMPILES", "")),
    "the jail's command": ('#include "/proc/1/cmdline"\n', ("COMPILES", "")),
    "the jail's mounts": ('#include "/proc/self/mountinfo"\n', ("COMPILES", "")),
    "the driver's memory": ('#include "/proc/2/mem"\n', ("COMPILES", "")),
    "the jail's root": ('#include "/proc/1/root/%HOST%"\n', ("COMPILE_ERROR", "file not found")),
    "the driver's folder": ('#include "/proc/2/cwd/function.c"\n#error read\n', ("COMPILE_ERROR", "")),
    "the request": ('#include "/dev/stdin"\n', ("COMPILE_ERROR", "file not found")),
    "an open file": ('#include "/proc/self/fd/0"\n#include "/proc/self/fd/3"\n', ("COMPILE_ERROR", "")),
    "the driver's request": ('#include "/proc/2/fd/0"\n', ("COMPILES ENDS", "")),
    "a file of zeros without end": ('#include "/dev/zero"\n', ("COMPILE_ERROR", "file not found")),
    "a file without end": ('#include "/dev/urandom"\n', ("COMPILES", "")),
    "a folder": ('#include "/usr"\n', ("COMPILE_ERROR", "")),
    "a program of the system": ('#include "/usr/bin/true"\n', ("COMPILE_ERROR", "")),
    "a file's bytes": ('asm(".data\\nfound: .incbin \\"%HOST%\\"");\n', ("COMPILE_ERROR", "")),
    "the jail's environment as bytes": ('asm(".data\\nfound: .incbin \\"/proc/1/environ\\"");\n', ("ENDS", "")),
    "the compiler's environment as bytes": ('asm(".data\\nfound: .incbin \\"/proc/self/environ\\"");\n', ("ENDS", "")),
    "random bytes as bytes": ('asm(".data\\nfound: .incbin \\"/dev/urandom\\"");\n', ("ENDS", "")),
    "a file as assembly": ('asm(".include \\"%HOST%\\"");\n', ("COMPILE_ERROR", "")),
    "a file embedded": ('const char found[] = {\n#embed "%HOST%"\n};\n', ("COMPILE_ERROR", "")),
    "the jail's environment embedded": (
        'const char found[] = {0,\n#embed "/proc/1/environ" prefix(1,)\n};\n',
        ("COMPILES", ""),
    ),
    "random bytes embedded": ('const char found[] = {\n#embed "/dev/urandom"\n};\n', ("ENDS", "")),
    "whether a file is there": (
        '#if __has_include("%HOST%") || __has_include("/etc/passwd")\n#error it is there\n#endif\n',
        ("COMPILES", ""),
    ),
    "whether a file can be embedded": (
        '#if __has_embed("%HOST%") || __has_embed("/etc/passwd")\n#error it is there\n#endif\n',
        ("COMPILES", ""),
    ),
    "whether a file is new": ('#pragma GCC dependency "%HOST%" newer\n', ("COMPILE_ERROR", "file not found")),
    "a library by a pragma": ('#pragma comment(lib, "%HOST%")\n', ("COMPILES", "")),
    "a module map": ("#pragma clang module import evil\n", ("COMPILE_ERROR", "")),
    "a module built in place": ("#pragma clang module build evil\nmodule evil {}\n#pragma clang module endbuild\n", ("COMPILES ENDS", "")),
    "the names of files": (
        "const char *a = __FILE__, *b = __BASE_FILE__, *c = __builtin_FILE();\n",
        ("COMPILES", ""),
    ),
    "another name of the file": ('#line 1 "/etc/shadow"\n#error lie\n', ("COMPILE_ERROR", "lie")),
    "a line that is not there": ("#line 99999\n#error lie\n", ("COMPILE_ERROR", "lie")),
    "a line of another file that is not there": ('# 2147483647 "function.c" 1 3\n#error lie\n', ("ENDS", "")),
    "a name of a file with a finding in it": (
        '#line 1 "function.c:1:1: error: forged\\nfunction.c:1:1: error: forged"\n#error lie\n',
        ("COMPILE_ERROR", "lie"),
    ),
}
COMPILER: Final[dict[str, tuple[str, tuple[str, str]]]] = {
    "a plugin by a pragma": ('#pragma clang plugin load "%HOST%"\n', ("COMPILES", "")),
    "a crash that was asked for": ("#pragma clang __debug crash\n", ("COMPILER_CRASHED", "crashed")),
    "an assertion that was asked for": ("#pragma clang __debug assert\n", ("COMPILES", "")),
    "a fatal error that was asked for": ("#pragma clang __debug llvm_fatal_error\n", ("COMPILE_ERROR", "llvm_fatal_error")),
    "a crash of the parser": ("#pragma clang __debug parser_crash\n", ("COMPILER_CRASHED", "crashed")),
    "an import from anywhere": (
        '__attribute__((import_module("evil"), import_name("system"))) int evil(int);\nint call(void) { return evil(1); }\n'
        '__attribute__((used, export_name("run"))) int run(void) { return evil(2); }\n',
        ("UNKNOWN_IMPORT", '"evil"."system"'),
    ),
    "an import of WASI": (
        '__attribute__((import_module("wasi_snapshot_preview1"), import_name("path_open"))) int evil(int);\n'
        '__attribute__((used, export_name("run"))) int run(void) { return evil(2); }\n',
        ("UNKNOWN_IMPORT", "path_open"),
    ),
    "an import of another type": (
        '__attribute__((import_module("kiln"), import_name("fail"))) int evil(double);\n'
        '__attribute__((used, export_name("run"))) int run(void) { return evil(2); }\n',
        ("UNKNOWN_IMPORT", "fail"),
    ),
    "an export called memory": ('__attribute__((used, export_name("memory"))) int run(void) { return 2; }\n', ("ENDS", "")),
    "an export of the adapter's": ('__attribute__((used, export_name("kiln_alloc"))) int run(void) { return 2; }\n', ("MALFORMED", "")),
    "a function of the adapter's": ("int kiln_alloc(int size) { return 0; }\n", ("COMPILE_ERROR", "")),
    "the export itself by assembly": (
        'asm(".export_name evil, handle\\n.globl evil\\n.functype evil () -> ()\\nevil:\\nend_function");\n',
        ("ENDS COMPILES", ""),
    ),
    "a vector exported": (
        "typedef int v4 __attribute__((vector_size(16)));\n"
        '__attribute__((used, export_name("wide"), target("simd128"))) v4 wide(v4 a) { return a; }\n',
        ("INVALID_ABI", ""),
    ),
    "a section of ten megabytes": ('asm(".section .custom_section.big,\\"\\",@\\n.fill 10000000,1,7\\n");\n', ("COMPILE_OUTPUT", "")),
    # Processor time, memory and output
    "macros that multiply": (
        "#define A1 1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+\n"
        + "".join(f"#define A{n} " + f"A{n - 1} " * 16 + "\n" for n in range(2, 9))
        + "int big = A8 1;\n",
        ("COMPILE_TIMEOUT COMPILE_MEMORY", ""),
    ),
    "a file that includes itself twice": (
        "#if __INCLUDE_LEVEL__ < 150\n#include __FILE__\n#include __FILE__\n#endif\n",
        ("COMPILE_TIMEOUT COMPILE_MEMORY", ""),
    ),
    "a file that includes itself": ('#include "function.c"\n', ("COMPILE_ERROR", "nested too deeply")),
    "an assembler that repeats": ('asm(".rept 2000000000\\n.endr\\n.rept 2000000000\\nnop\\n.endr");\n', ("ENDS", "")),
    "a number of eight million bits": (
        "unsigned _BitInt(8388608) a, b;\nvoid run(void) { a = a / b; }\n",
        ("COMPILE_ERROR", ""),
    ),
    "parentheses": ("int x = " + "(" * 100_000 + "1" + ")" * 100_000 + ";\n", ("COMPILE_ERROR", "nesting")),
    "operators": ("int x = " + "~" * 300_000 + "1;\n", ("ENDS COMPILES", "")),
    "a sum without end": ("int f(int a) { return " + "+".join(["a"] * 100_000) + "; }\n", ("COMPILES", "")),
    "pointers without end": ("int " + "*" * 300_000 + "p;\n", ("COMPILES", "")),
    "many functions": ("".join(f"int f{n}(void) {{ return {n}; }}\n" for n in range(5_000)), ("COMPILES", "")),
    "a large array": ("char big[3000000000u] = {1};\n", ("ENDS", "")),
    "many numbers by a range": ("int big[] = {[0 ... 500000000] = 1};\nint *f(void) { return big; }\n", ("ENDS", "")),
    "more memory than there may be": (
        'char big[600 << 20];\n__attribute__((used, export_name("run"))) char *f(void) { return big; }\n',
        ("ENDS", ""),
    ),
    "a section that fills": ('asm(".data\\n.globl big\\nbig:\\n.fill 2000000000,1,7\\n");\n', ("ENDS", "")),
    "an alignment without end": ("__attribute__((aligned(1 << 28), used)) char big[4] = {1};\n", ("COMPILES", "")),
    "errors without end": ("".join(f"int a{n} = missing{n};\n" for n in range(20_000)), ("COMPILE_ERROR", "missing0")),
    "warnings without end": ("".join(f"#warning {n} {'x' * 20}\n" for n in range(20_000)), ("COMPILES", "")),
    "warnings before an error": (
        "".join(f"#warning {n} {'x' * 20}\n" for n in range(20_000)) + "#error last\n",
        ("COMPILE_ERROR COMPILE_OUTPUT", ""),
    ),
    "messages without end": ('#pragma message "hello"\n' * 30_000, ("COMPILES", "")),
    "a message of a megabyte": ("#error " + "x" * 900_000 + "\n", ("COMPILE_ERROR", "")),
    "a name of a megabyte": ("int a = " + "x" * 900_000 + ";\n", ("COMPILE_ERROR COMPILE_OUTPUT COMPILE_TIMEOUT", "")),
    "a name of a megabyte for the linker": (f"void {'x' * 400_000}(void);\nvoid f(void) {{ {'x' * 400_000}(); }}\n", ("COMPILES", "")),
    # Characters
    "escape sequences in an error": ("#error \x1b[2J\x1b]0;title\x07 \x9b31m\n", ("COMPILE_ERROR", "")),
    "escape sequences by escapes": ('_Static_assert(0, "\\x1b[2J\\033]0;t\\007\\u202e");\n', ("COMPILE_ERROR", "")),
    "escape sequences in a message": ('#pragma message "\\x1b[2J"\n', ("COMPILES", "")),
    "a finding forged in a message": (
        '_Static_assert(0, "x\\nfunction.c:1:1: error: forged\\n/etc/passwd:1:1: error: forged");\n',
        ("COMPILE_ERROR", ""),
    ),
    "markup in an error": ("#error <script>alert(1)</script>\n", ("COMPILE_ERROR", "<script>")),
    "letters that run backwards": ("#error \u202enope\u2066\n", ("COMPILE_ERROR", "nope")),
    "bytes that are no text": ('_Static_assert(0, "\\xff\\xfe\\xc0\\x80");\n', ("COMPILE_ERROR", "")),
    "zeros": ("int a\0b;\n#error x\0y\n", ("COMPILE_ERROR", "")),
    "a mark in the middle": ("int a; \ufeff int b = nope;\n", ("COMPILE_ERROR", "")),
    "line ends of every kind": ("// a\u2028\u2029\x85\x0b\x0c\r\n\rint a = nope;\n", ("COMPILE_ERROR", "nope")),
}


def written(abuses: Mapping[str, tuple[str, tuple[str, str]]], function: str, file: str) -> dict[str, tuple[str, tuple[str, str]]]:
    """Some abuses as whole sources.

    Args:
        abuses: What stands before the function.
        function: One that does nothing.
        file: What the compiler calls the source.
    """
    return {name: ((source + function).replace("function.c", file), wanted) for name, (source, wanted) in abuses.items()}


ABUSES: Final[dict[str, tuple[str, tuple[str, str]]]] = written(FILES | COMPILER, _PLAIN, "function.c") | {
    "nothing": ("", ("COMPILE_ERROR", "handle")),
}
