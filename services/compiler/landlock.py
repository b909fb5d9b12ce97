"""The lesser jail, for systems without namespaces: `python -I -S landlock.py FILTER FOLDER... -- COMMAND...`.

Takes from a child process every file but those of the folders, which it may read and execute, and of its working folder, which is its
own; TCP, signals to others and abstract sockets; and the system calls of the filter in descriptor FILTER. Then the child becomes the
command, and when that ends this process ends whatever it has left behind.

Run by its path, so it imports nothing but the standard library. Sources: linux/landlock.h and Documentation/userspace-api/landlock.rst.
"""

import ctypes
import errno
import os
import signal
import struct
import sys
from typing import Final

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION, _PATH_BENEATH = 1, 1
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
# The version of the kernel's interface that knows all of this: 16 rights to files, 2 to TCP, 2 scopes. Older ones leave too much open.
_OLDEST: Final = 6
_FILE_RIGHTS, _NET_RIGHTS, _SCOPES = (1 << 16) - 1, 0b11, 0b11
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS, _PR_SET_CHILD_SUBREAPER, _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 1, 38, 36, 22, 2
_FILTER_BYTES: Final = 8 * 4096

_libc: Final = ctypes.CDLL(None, use_errno=True)


class _Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def main(arguments: list[str]) -> None:
    """Runs the program in a child that is confined; ends as it does."""
    descriptor, rest = int(arguments[0]), arguments[1:]
    folders, command = rest[: rest.index("--")], rest[rest.index("--") + 1 :]
    _check(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    # Descendants whose parents end become this process's children, wherever they went.
    _check(_libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0))
    parent = os.getpid()
    child = os.fork()
    if child:
        sys.exit(_end_of(child))
    _check(_libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0))
    if os.getppid() == parent:
        confine(folders)
        program = os.pread(descriptor, _FILTER_BYTES, 0)
        os.close(descriptor)
        filter_calls(program)
        os.execve(command[0], command, dict(os.environ))


def _end_of(child: int) -> int:
    """Waits for a child, ends all that is left of its descendants, and returns its exit code, or 128 and its signal."""
    code = 0
    while True:
        try:
            ended, status = os.wait()
        except ChildProcessError:
            return code
        if ended == child:
            code = os.waitstatus_to_exitcode(status)
            code = 128 - code if code < 0 else code
            child = 0
        if not child:
            for orphan in _children():
                os.kill(orphan, signal.SIGKILL)


def _children() -> list[int]:
    with open(f"/proc/self/task/{os.getpid()}/children", encoding="ascii") as file:
        return [int(number) for number in file.read().split()]


def confine(folders: list[str]) -> None:
    """From now on only these folders are there, to be read, and the working folder, for everything.

    Raises:
        OSError: the kernel has no Landlock, or it is turned off, or too old.
    """
    version = _check(_libc.syscall(_CREATE_RULESET, None, 0, _VERSION))
    if version < _OLDEST:
        raise OSError(errno.EOPNOTSUPP, f"this kernel's Landlock is of version {version}, and {_OLDEST} is needed")
    attributes = struct.pack("=QQQ", _FILE_RIGHTS, _NET_RIGHTS, _SCOPES)
    ruleset = _check(_libc.syscall(_CREATE_RULESET, attributes, len(attributes), 0))
    for folder in folders:
        _allow(ruleset, folder, _EXECUTE | _READ_FILE | _READ_DIR)
    _allow(ruleset, ".", _FILE_RIGHTS)
    _allow(ruleset, "/dev/null", _READ_FILE | _WRITE_FILE)
    _allow(ruleset, "/dev/urandom", _READ_FILE)
    _check(_libc.syscall(_RESTRICT_SELF, ruleset, 0))
    os.close(ruleset)


def filter_calls(program: bytes) -> None:
    """From now on the system calls of a filter are refused.

    Raises:
        OSError: the kernel takes no filter.
    """
    filter_ = _Program(len(program) // 8, program)
    _check(_libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(filter_), 0, 0))


def _allow(ruleset: int, path: str, rights: int) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    rule = struct.pack("=Qi", rights, descriptor)
    _check(_libc.syscall(_ADD_RULE, ruleset, _PATH_BENEATH, rule, 0))
    os.close(descriptor)


def _check(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


if __name__ == "__main__":
    main(sys.argv[1:])
