"""Writes `libs/gen` from the protos: messages, type stubs, gRPC stubs, and the descriptor set with its comments.

Usage: python protos/generate.py [FOLDER]   (FOLDER defaults to libs/gen, whose old contents are replaced)
"""

import shutil
import sys
from importlib import resources
from pathlib import Path

from google.api import annotations_pb2
from grpc_tools import protoc

PROTOS = Path(__file__).parent
WELL_KNOWN = resources.files("grpc_tools") / "_proto"
# googleapis-common-protos installs google/api and google/rpc next to the other packages.
GOOGLE_APIS = Path(annotations_pb2.__file__).parents[2]


def generate(target: Path) -> None:
    """Replaces `target` with freshly generated code.

    Raises:
        SystemExit: protoc refused the protos; it has printed why.
    """
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    sources = sorted(str(path.relative_to(PROTOS)) for path in PROTOS.glob("kiln/**/*.proto"))
    services = [name for name in sources if "\nservice " in (PROTOS / name).read_text()]
    includes = [f"-I{PROTOS}", f"-I{WELL_KNOWN}", f"-I{GOOGLE_APIS}"]
    run([*includes, f"--python_out={target}", f"--pyi_out={target}", *sources])
    run([*includes, f"--grpc_python_out={target}", f"--mypy_grpc_out={target}", *services])
    run([*includes, f"--descriptor_set_out={target / 'kiln.binpb'}", "--include_imports", "--include_source_info", *sources])
    # What makes the folder a package is generated as well; mypy wants a package at every level.
    for folder in {path.parent for path in target.rglob("*.py")}:
        while folder != target:
            (folder / "__init__.py").touch()
            folder = folder.parent


def run(arguments: list[str]) -> None:
    """Runs protoc in this process."""
    if protoc.main(["protoc", *arguments]) != 0:
        raise SystemExit("protoc failed")


if __name__ == "__main__":
    generate(Path(sys.argv[1]) if len(sys.argv) > 1 else PROTOS.parent / "libs" / "gen")
