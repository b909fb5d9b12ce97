"""Pins every dependency with its hashes, without the address it came from.

`dev` is resolved first; every smaller set then takes the same versions, so that what is tested is what an image installs.
"""

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
SMALLER = ("local", "gateway", "registry", "compiler", "executor", "auth")


def compile_pins(source: Path, target: Path, *options: str) -> None:
    """Resolves one set of dependencies."""
    command = [str(Path(sys.executable).with_name("uv")), "pip", "compile", str(source), "--universal", "--python-version=3.11"]
    subprocess.run(
        [*command, "--generate-hashes", "--no-header", "--no-annotate", "--quiet", f"--output-file={target}", *options],
        check=True,
        cwd=HERE.parent,
    )


def main() -> None:
    """Rewrites all the files."""
    project = HERE.parent / "pyproject.toml"
    compile_pins(project, HERE / "dev.txt", "--group=dev", "--upgrade")
    for group in SMALLER:
        compile_pins(project, HERE / f"{group}.txt", f"--group={group}", f"--constraints={HERE / 'dev.txt'}")
    compile_pins(HERE / "uv.in", HERE / "uv.txt")


if __name__ == "__main__":
    main()
