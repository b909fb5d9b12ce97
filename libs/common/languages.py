"""The languages Kiln knows: the registry accepts these ids, the compiler has a folder for each."""

from typing import Final

# Its functions are prebuilt modules, where those of the others are texts.
WASM: Final = "wasm"
LANGUAGES: Final = ("assemblyscript", "c", "cpp", "go", "rust", WASM, "zig")
