"""C++, by clang, without exceptions. Functions include the standard library, <nlohmann/json.hpp> and Kiln's <kiln.h>."""

import importlib.util
from pathlib import Path
from typing import Final

from services.compiler.hot import HotProcesses
from services.compiler.languages.clang import Clang, Dialect
from services.compiler.languages.clang.sysroot import OF_CPP

_FOLDER: Final = Path(__file__).parent

_STARTER: Final = """\
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

std::string handle(std::string_view input) {
  auto greeting = nlohmann::json::parse(input);
  nlohmann::json answer = {{"message", "Hello, " + greeting.value("name", "world") + "!"}};
  return answer.dump();
}
"""


def _json_headers() -> tuple[Path, ...]:
    spec = importlib.util.find_spec("nlohmann_json")
    return (Path(spec.origin).parent / "include",) if spec and spec.origin else ()


_DIALECT: Final = Dialect(
    id="cpp",
    name="C++",
    starter=_STARTER,
    file="function.cpp",
    signature="std::string handle(std::string_view input)",
    prelude=_FOLDER / "prelude.hpp",
    header_kind="c++-header",
    adapter=_FOLDER / "adapter.cpp",
    flags=(
        "--driver-mode=g++",
        "-std=c++23",
        "-fno-exceptions",
        "-nostdinc++",
        # As Zig has built the library.
        "-D_LIBCPP_ABI_VERSION=1",
        "-D_LIBCPP_ABI_NAMESPACE=__1",
        "-D_LIBCPP_HAS_THREADS=0",
        "-D_LIBCPP_HAS_MONOTONIC_CLOCK",
        "-D_LIBCPP_HAS_TERMINAL",
        "-D_LIBCPP_HAS_MUSL_LIBC=1",
        "-D_LIBCXXABI_DISABLE_VISIBILITY_ANNOTATIONS",
        "-D_LIBCPP_DISABLE_VISIBILITY_ANNOTATIONS",
        "-D_LIBCPP_HAS_VENDOR_AVAILABILITY_ANNOTATIONS=0",
        "-D_LIBCPP_HAS_FILESYSTEM=0",
        "-D_LIBCPP_HAS_RANDOM_DEVICE",
        "-D_LIBCPP_HAS_LOCALIZATION",
        "-D_LIBCPP_HAS_UNICODE",
        "-D_LIBCPP_HAS_WIDE_CHARACTERS",
        "-D_LIBCPP_HAS_NO_STD_MODULES",
        "-D_LIBCPP_PSTL_BACKEND_SERIAL",
        # Unlike it: an index outside of its container ends the run with a message.
        "-D_LIBCPP_HARDENING_MODE=_LIBCPP_HARDENING_MODE_FAST",
        "-D_LIBCPP_ASSERTION_SEMANTIC_DEFAULT=_LIBCPP_ASSERTION_SEMANTIC_ENFORCE",
    ),
    headers=_json_headers(),
    library=("libcxx/include", "libcxxabi/include"),
    archives=OF_CPP,
    packages=("nlohmann-json",),
)


class Cpp(Clang):
    """The language C++."""

    def __init__(self, hot: HotProcesses) -> None:
        super().__init__(hot, _DIALECT)
