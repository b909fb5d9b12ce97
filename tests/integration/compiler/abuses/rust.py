"""What hostile sources in Rust try, and what comes of it. The words of an expectation are those of test_abuses.py."""

from typing import Final

_REST: Final = "\npub fn handle(input: &str) -> Result<String, String> { Ok(input.to_string()) }\n"


def _answering(expression: str) -> str:
    return f'pub fn handle(_: &str) -> Result<String, String> {{ Ok(format!("{{:?}}", {expression})) }}\n'


ABUSES: Final[dict[str, tuple[str, tuple[str, str]]]] = {
    "a file as text": (_answering('include_str!("/etc/passwd")'), ("COMPILE_ERROR", "couldn't read /etc/passwd")),
    "a file as bytes": (_answering('include_bytes!("/etc/shadow")'), ("COMPILE_ERROR", "couldn't read /etc/shadow")),
    "a file as code": ('include!("/etc/hostname");' + _REST, ("COMPILE_ERROR", "couldn't read /etc/hostname")),
    "a file as a module": ('#[path = "/etc/passwd"] mod x;' + _REST, ("COMPILE_ERROR", "couldn't read /etc/passwd")),
    "a file as documentation": ('#[doc = include_str!("/etc/passwd")]' + _REST, ("COMPILE_ERROR", "couldn't read /etc/passwd")),
    "another module": ("mod x;" + _REST, ("COMPILE_ERROR", "a function is one file")),
    "the jail's environment": (_answering('include_bytes!("/proc/1/environ")'), ("COMPILES", "")),
    "the compiler's environment": (_answering('include_bytes!("/proc/self/environ")'), ("COMPILES", "")),
    "a variable": (_answering('env!("KILN_DATABASE_URL")'), ("COMPILE_ERROR", "`KILN_DATABASE_URL` not defined")),
    "a variable that may be there": (_answering('option_env!("KILN_DATABASE_URL")'), ("COMPILES", "")),
    "a library of the system": (
        '#[link(name = "c")] extern "C" { fn getpid() -> i32; }\n' + _answering("unsafe { getpid() }"),
        ("COMPILE_ERROR", "unable to find library -lc"),
    ),
    "an import from anywhere": (
        'extern "C" { fn system(command: *const u8) -> i32; }\n' + _answering("unsafe { system(std::ptr::null()) }"),
        ("UNKNOWN_IMPORT", '"env"."system"'),
    ),
    "an import from a module": (
        '#[link(wasm_import_module = "host")] extern "C" { fn open(path: *const u8) -> i32; }\n' + _answering("unsafe { open(1 as _) }"),
        ("UNKNOWN_IMPORT", '"host"."open"'),
    ),
    "an export of the adapter's": (
        '#[no_mangle] pub extern "C" fn kiln_alloc(_: i32) -> i32 { 0 }' + _REST,
        ("COMPILE_ERROR", "`kiln_alloc` is defined twice"),
    ),
    "the export itself": (
        '#[export_name = "handle"] pub extern "C" fn mine(_: i32) -> i32 { 0 }' + _REST,
        ("COMPILE_ERROR", "Kiln exports `handle`"),
    ),
    "the adapter cut off": (_REST + "#[cfg(any())]", ("COMPILE_ERROR", "")),
    "the adapter in a comment": (_REST + "/*", ("COMPILE_ERROR", "unterminated block comment")),
    "another allocator": (
        "#[global_allocator] static A: std::alloc::System = std::alloc::System;" + _REST,
        ("COMPILE_ERROR", "conflicts with global allocator"),
    ),
    "another kind of crate": ('#![crate_type = "proc-macro"]' + _REST, ("COMPILES", "")),
    "assembly": (_answering('unsafe { std::arch::asm!("nop") }'), ("COMPILE_ERROR", "inline assembly is not stable")),
    "a file as assembly": ('std::arch::global_asm!(".incbin \\"/etc/passwd\\"");' + _REST, ("COMPILE_ERROR", "assembly is not stable")),
    "an unstable feature": ("#![feature(core_intrinsics)]" + _REST, ("COMPILE_ERROR", "may not be used on the stable release channel")),
    "a crate of the compiler's": ("extern crate rustc_driver;" + _REST, ("COMPILE_ERROR", "std, kiln, serde and serde_json only")),
    "a crate of the standard library's": ("extern crate libc;" + _REST, ("COMPILE_ERROR", "std, kiln, serde and serde_json only")),
    "a crate of serde's": ("extern crate syn;" + _REST, ("COMPILE_ERROR", "std, kiln, serde and serde_json only")),
    "a constant without end": (
        "#![allow(long_running_const_eval)]\nconst N: u64 = { let mut n = 0u64; while n < u64::MAX { n += 1; } n };" + _answering("N"),
        ("ENDS", ""),
    ),
    "a macro that doubles": ("macro_rules! two { ($($t:tt)*) => { two!($($t)* $($t)* x) } }\ntwo!(x);" + _REST, ("ENDS", "")),
    "recursion without a limit": (
        '#![recursion_limit = "4000000"]\nmacro_rules! more { ($($t:tt)*) => { more!($($t)* x) } }\nmore!();' + _REST,
        ("ENDS", ""),
    ),
    "types without end": (
        "struct W<T>(T);\ntrait Deep { fn f(n: u8) -> u8; }\nimpl<T> Deep for W<T> { fn f(n: u8) -> u8 { W::<W<T>>::f(n) } }\n"
        + _answering("W::<u8>::f(1)"),
        ("ENDS", ""),
    ),
    "nested too deeply": (_answering("(" * 50_000 + "1" + ")" * 50_000), ("ENDS", "")),
    "a file without end": (_answering('include_bytes!("/dev/urandom")'), ("ENDS", "")),
    "errors without end": ("".join(f"fn f{n}() {{ missing{n}; }}\n" for n in range(300)) + _REST, ("COMPILE_ERROR", "missing0")),
    "a name of a megabyte": ("const A: u8 = " + "x" * 900_000 + ";" + _REST, ("COMPILE_OUTPUT", "65536")),
    "a message of a megabyte": ('compile_error!("' + "x" * 900_000 + '");' + _REST, ("COMPILE_OUTPUT", "65536")),
    "escape sequences in a message": ('compile_error!("\\x1b[2J\\u{202e}\\u{9b}31m");' + _REST, ("COMPILE_ERROR", "[2J")),
    "a finding forged in a message": ('compile_error!("x\\n{}\\nerror: forged");' + _REST, ("COMPILE_ERROR", "forged")),
    "markup in a message": ('compile_error!("<script>alert(1)</script>");' + _REST, ("COMPILE_ERROR", "<script>")),
    "letters that run backwards": ('compile_error!("\u202enope\u2066");' + _REST, ("COMPILE_ERROR", "nope")),
    "line ends of every kind": ("// a\u2028\u2029\x85\x0b\x0c\r\nconst A: u8 = nope;" + _REST, ("COMPILE_ERROR", "nope")),
    "a large constant": ("static BIG: [u8; 3 << 30] = [1; 3 << 30];" + _answering("BIG[3]"), ("ENDS", "")),
}
