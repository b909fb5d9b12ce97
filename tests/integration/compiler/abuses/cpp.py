"""What hostile sources in C++ try beyond those in C, and what comes of it. The words of an expectation are those of test_abuses.py."""

from typing import Final

from tests.integration.compiler.abuses import c

_PLAIN: Final = "#include <string>\n#include <string_view>\nstd::string handle(std::string_view input) { return std::string(input); }\n"

_OWN: Final[dict[str, tuple[str, tuple[str, str]]]] = {
    # Files
    "a header as a module": ('import "%HOST%";\n', ("COMPILE_ERROR", "")),
    "a module of the standard library": ("import std;\n", ("COMPILE_ERROR", "")),
    "a module of its own": ("module;\nexport module evil;\nimport <%HOST%>;\n", ("COMPILE_ERROR", "")),
    # Processor time
    "a constant without end": (
        "constexpr unsigned long f() { unsigned long n = 0; while (true) n++; return n; }\nconstexpr auto n = f();\n",
        ("COMPILE_ERROR", "constant expression"),
    ),
    "a constant that calls itself": (
        "consteval int f(int n) { return n < 2 ? n : f(n - 1) + f(n - 2); }\nconstexpr int n = f(60);\n",
        ("COMPILE_ERROR", "constant expression"),
    ),
    "many constants that take long": (
        "constexpr int f(int k) { int n = 0; for (int i = 0; i < 300000; i++) n ^= i + k; return n; }\n"
        + "".join(f"constexpr int n{n} = f({n});\n" for n in range(20_000)),
        ("COMPILE_TIMEOUT", "3 seconds"),
    ),
    "memory for a constant": (
        "constexpr int f(int k) { int *p = new int[20000000]{}; int n = p[k]; delete[] p; return n; }\n"
        + "".join(f"constexpr int n{n} = f({n});\n" for n in range(100)),
        ("ENDS", ""),
    ),
    "a template that calls itself": ("template <int N> struct A { A<N + 1> a; };\nA<0> a;\n", ("COMPILE_ERROR", "recursive template")),
    "templates that double": (
        "template <int N, unsigned long M> struct A { A<N - 1, 2 * M> a; A<N - 1, 2 * M + 1> b; };\n"
        "template <unsigned long M> struct A<0, M> {};\nA<40, 1> a;\n",
        ("COMPILE_TIMEOUT COMPILE_MEMORY", ""),
    ),
    "names that double": (
        "template <class A, class B> struct P {};\ntemplate <int N> struct T { using t = P<typename T<N - 1>::t, typename T<N - 1>::t>; };"
        "\ntemplate <> struct T<0> { using t = int; };\ntemplate <class X> void f(X) { static int n = 0; n++; }\n"
        "void run() { f(T<40>::t{}); }\n",
        ("COMPILES ENDS", ""),
    ),
    "a sequence of many numbers": (
        "#include <utility>\nauto x = std::make_index_sequence<2000000000>{};\n",
        ("ENDS", ""),
    ),
    "choices that multiply": (
        "struct A { template <class T> operator T() const; };\n"
        "template <class T, class = decltype(T{} + T{})> int f(T, int);\n"
        + "".join(f"int g(int (*)[{n + 1}]);\n" for n in range(3000))
        + "auto r = g(A{});\n",
        ("ENDS", ""),
    ),
    "functions in functions": ("void g() { auto f = " + "[] { return " * 400 + "1" + "; }()" * 400 + "; }\n", ("COMPILES", "")),
    # Output
    "a type without end in an error": (
        "template <class A, class B> struct P {};\ntemplate <int N> struct T { using t = P<typename T<N - 1>::t, typename T<N - 1>::t>; };"
        "\ntemplate <> struct T<0> { using t = int; };\nint x = T<20>::t{};\n",
        ("COMPILE_ERROR", ""),
    ),
    "a message that is worked out": (
        'struct M { constexpr auto size() const { return 5ul; } constexpr const char *data() const { return "\\x1b[2J\\n"; } };\n'
        "static_assert(false, M{});\n",
        ("COMPILE_ERROR", ""),
    ),
    "a message of many megabytes that is worked out": (
        "#include <string>\nstatic_assert(false, std::string(900000, 'x'));\n",
        ("COMPILE_ERROR", ""),
    ),
}

# One that waits until its time is over is enough for both.
_SHARED: Final = {name: abuse for name, abuse in c.FILES.items() if name != "the driver's request"} | {
    name: c.COMPILER[name]
    for name in ("a crash that was asked for", "an import from anywhere", "an export called memory", "macros that multiply", "zeros")
}

ABUSES: Final[dict[str, tuple[str, tuple[str, str]]]] = c.written(_SHARED, _PLAIN, "function.cpp") | {
    **{name: (source + _PLAIN, wanted) for name, (source, wanted) in _OWN.items()},
    "nothing": ("", ("COMPILE_ERROR", "handle")),
}
