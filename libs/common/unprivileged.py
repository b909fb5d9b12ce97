"""Starts a program with no more rights than it needs, and lets it die with whoever started it.

    python unprivileged.py --parent PID --signal N [--uid N] PROGRAM [ARGUMENT ...]

Without `--uid` the program keeps its user. With it (only root can) the program runs in a user namespace where it is `nobody` and holds no
capability, and outside it is that uid; uid 0 is for what lies below a folder that is closed to others, so that it need not be opened.

Run by itself with `python -I -S`, so it imports nothing but the standard library, and of that only what starts quickly, because jails wait
for it.
"""

from __future__ import annotations

import ctypes
import os
import stat
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

# Dedicated numbers, far from those of people and of packages: database files and compilers do not share one.
POSTGRES_UID = 64050
COMPILER_UID = 64051
NOBODY = 65534

# From signal.h, linux/sched.h and linux/prctl.h.
_SIGKILL = 9
_CLONE_NEWUSER = 0x10000000
_PR_SET_PDEATHSIG = 1


def launcher(uid: int | None = None, *, death_signal: int = _SIGKILL, needs: Sequence[Path] = ()) -> list[str]:
    """The beginning of an argument list that starts a program unprivileged.

    Args:
        uid: Which user to become when this process is root; None keeps it.
        death_signal: Sent to the program when this process dies.
        needs: What the program must reach. When one lies below a folder that is closed to others, the program keeps uid 0 outside its
            namespace, without capabilities, instead of `uid`.
    """
    prefix = [sys.executable, "-I", "-S", __file__, "--parent", str(os.getpid()), "--signal", str(int(death_signal))]
    if uid is not None and os.geteuid() == 0:
        prefix += ["--uid", str(user_for(uid, needs))]
    return prefix


def user_for(uid: int, needs: Sequence[Path]) -> int:
    """The uid that a program started with `launcher(uid, needs=needs)` has outside its namespace."""
    if os.geteuid() != 0:
        return os.geteuid()
    return uid if all(open_to_others(path) for path in needs) else 0


def open_to_others(path: Path) -> bool:
    """Whether any user may read the path (and enter it, for a folder), and pass through every folder above."""
    path = path.resolve()
    mode = path.stat().st_mode
    wanted = stat.S_IROTH | (stat.S_IXOTH if path.is_dir() else 0)
    return mode & wanted == wanted and all(parent.stat().st_mode & stat.S_IXOTH for parent in path.parents)


def main(arguments: list[str]) -> None:
    """Gives up rights and becomes the program."""
    parent, death_signal, arguments = int(arguments[1]), int(arguments[3]), arguments[4:]
    if arguments[0] == "--uid":
        _become(int(arguments[1]))
        arguments = arguments[2:]
    # After the change of user, which clears it. A parent that died before that has left us to another.
    _libc().prctl(_PR_SET_PDEATHSIG, death_signal, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)
    os.execv(arguments[0], arguments)


def _become(uid: int) -> None:
    os.setgroups([])
    ready, write_end = os.pipe()
    mapped, mapped_write = os.pipe()
    pid = os.getpid()
    helper = os.fork()
    if helper == 0:
        # Only a process outside the new namespace may map it to a uid that is not our own.
        os.close(mapped)
        os._exit(_map(pid, uid, ready, write_end, mapped_write))
    os.close(mapped_write)
    in_namespace = _libc().unshare(_CLONE_NEWUSER) == 0
    os.write(write_end, b"1" if in_namespace else b"0")
    os.read(mapped, 1)
    _, status = os.waitpid(helper, 0)
    if in_namespace and status == 0:
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    elif in_namespace or uid == 0:
        sys.exit("kiln: user namespaces are needed here, because a folder above is closed to other users, and this system refuses them")
    else:
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)


def _map(pid: int, uid: int, ready: int, write_end: int, mapped_write: int) -> int:
    os.close(write_end)
    try:
        if os.read(ready, 1) == b"1":
            for kind in ("gid_map", "uid_map"):
                with open(f"/proc/{pid}/{kind}", "w", encoding="ascii") as file:
                    file.write(f"{NOBODY} {uid} 1")
    except OSError:
        return 1
    finally:
        os.close(mapped_write)
    return 0


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


if __name__ == "__main__":
    main(sys.argv[1:])
