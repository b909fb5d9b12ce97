"""Builds one source in the jail: writes the files of the request, runs its commands one after the other, and answers with what came of it.

`python -I -S -c <this text> NAME=FOLDER...`: it copies folders that the commands write to, then stands by until its one request comes, as
`services.compiler.hot.Program` says. The request is a marshalled dictionary; the answer's text is the exit code (4 bytes, signed), the
module's whole size (8 bytes) and what the commands said. It is of the jail's side: nothing that it answers is believed, because what it
runs may have taken it over.

Half of a small build's processor time would go into imports, so it has few.
"""

import marshal
import os
import sys

_CHUNK = 65_536
# SIGPIPE and SIGXFSZ, which Python ignores and other programs do not.
_IGNORED = (13, 25)


def main() -> None:
    """One request, one answer."""
    for name, _, folder in (pair.partition("=") for pair in sys.argv[1:]):
        copy(folder, name)
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    sink.write(b"KILN")
    sink.flush()
    request = source.read(int.from_bytes(source.read(4), "big"))
    if request:
        answer(sink, marshal.loads(request))  # noqa: S302  (from the service, which is trusted here)


def answer(sink, request: dict) -> None:  # type: ignore[no-untyped-def, type-arg]
    """Does what is asked for, and says what came of it."""
    status, said = build(request)
    module, size = artifact(request["artifact"], request["artifact_bytes"]) if status == 0 else (b"", 0)
    text = status.to_bytes(4, "big", signed=True) + size.to_bytes(8, "big") + said
    sink.write(len(text).to_bytes(4, "big") + len(module).to_bytes(4, "big") + text + module)
    sink.flush()


def copy(folder: str, name: str) -> None:
    """Copies what is in a folder, and nothing of its rights and times: not every jail lets them be set."""
    # Few compilers need it.
    import shutil

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
    said, (reading, writing) = b"", os.pipe()
    streams = [(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0), *((os.POSIX_SPAWN_DUP2, writing, to) for to in (1, 2))]
    process = os.posix_spawn(command[0], command, os.environ, file_actions=streams, setsigdef=_IGNORED)
    os.close(writing)
    while chunk := os.read(reading, _CHUNK):
        said += chunk[: room - len(said)]
    os.close(reading)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), said


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
