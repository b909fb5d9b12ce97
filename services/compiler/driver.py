"""Builds one source in the jail: writes the files of the request, runs its commands one after the other, and answers with what came of it.

`python -I -S -c <this text> NAME=FOLDER...`: it copies folders that the commands write to, then stands by until its one request comes, as
`services.compiler.hot.Program` says. It is of the jail's side: nothing that it answers is believed, because what it runs may have taken it
over.
"""

import json
import os
import shutil
import subprocess
import sys

_CHUNK = 65_536


def main() -> None:
    """One request, one answer."""
    for name, _, folder in (pair.partition("=") for pair in sys.argv[1:]):
        copy(folder, name)
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    sink.write(b"KILN")
    sink.flush()
    request = json.loads(source.read(int.from_bytes(source.read(4), "big")) or b"null")
    if request is None:
        return
    status, said = build(request)
    module, size = artifact(request["artifact"], request["artifact_bytes"]) if status == 0 else (b"", 0)
    text = json.dumps({"status": status, "said": said.decode(errors="replace"), "size": size}).encode()
    sink.write(len(text).to_bytes(4, "big") + len(module).to_bytes(4, "big") + text + module)
    sink.flush()


def copy(folder: str, name: str) -> None:
    """Copies what is in a folder, and nothing of its rights and times: not every jail lets them be set."""
    for path, _, files in os.walk(folder):
        place = os.path.join(name, os.path.relpath(path, folder))
        os.makedirs(place, exist_ok=True)
        for file in files:
            shutil.copyfile(os.path.join(path, file), os.path.join(place, file))


def build(request: dict) -> tuple[int, bytes]:  # type: ignore[type-arg]
    """The exit code of the first command that failed, or 0, and the beginning of what all of them said."""
    for name, text in request["files"].items():
        with open(name, "x", encoding="utf-8", newline="") as file:
            file.write(text)
    said = b""
    for command in request["commands"]:
        placed = [word.replace("{folder}", os.getcwd()) for word in command]
        status, words = run(placed, request["said_bytes"] - len(said))
        said += words
        if status != 0:
            return status, said
    return 0, said


def run(command: list[str], room: int) -> tuple[int, bytes]:
    """Runs a command to its end: its exit code or minus its signal, and what it said, as far as there is room."""
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        said = b""
        while process.stdout and (chunk := os.read(process.stdout.fileno(), _CHUNK)):
            said += chunk[: room - len(said)]
    return process.returncode, said


def artifact(name: str, most: int) -> tuple[bytes, int]:
    """The module, or one byte more than it may have when it is larger, and its whole size. Nothing where there is none."""
    try:
        with os.fdopen(os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
            # A pipe that is empty for now gives None.
            return file.read(most + 1) or b"", os.fstat(file.fileno()).st_size
    except OSError:
        return b"", 0


if __name__ == "__main__":
    main()
