"""C, by clang. Functions include <json.h> and <kiln.h>, which are Kiln's own, and wasi-libc."""

from pathlib import Path
from typing import Final

from services.compiler.hot import HotProcesses
from services.compiler.languages.clang import Clang, Dialect

_FOLDER: Final = Path(__file__).parent

_STARTER: Final = """\
#include <json.h>

char *handle(const char *input) {
  json *greeting = json_parse(input);
  json *answer = json_object();
  char message[256];
  snprintf(message, sizeof message, "Hello, %s!", json_get_string(greeting, "name", "world"));
  json_set(answer, "message", json_from_string(message));
  return json_write(answer);
}
"""

_DIALECT: Final = Dialect(
    id="c",
    name="C",
    starter=_STARTER,
    file="function.c",
    signature="char *handle(const char *input)",
    prelude=_FOLDER / "prelude.h",
    header_kind="c-header",
    adapter=_FOLDER / "adapter.c",
    flags=("-std=gnu17",),
)


class C(Clang):
    """The language C."""

    def __init__(self, hot: HotProcesses) -> None:
        super().__init__(hot, _DIALECT)
