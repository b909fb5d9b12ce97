"""The languages Kiln knows: the registry accepts these ids, the compiler has a folder for each."""

from typing import Final

LANGUAGES: Final = ("assemblyscript", "c", "cpp", "go", "zig")
