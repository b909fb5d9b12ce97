"""Sets the limits of one process, then becomes the compiler: `python -I -S limited.py CPU FILE_BYTES FILES NICE KEPT command...`.

A program of its own, since code between fork and exec is unsafe in a process with threads (gRPC has some). It is run by its path
and imports nothing of Kiln and little else, so that it starts in some 12 ms and needs no package to be readable for the compiler's uid.
"""

import ctypes
import os
import resource
import sys

# From signal.h and linux/prctl.h.
_SIGKILL = 9
_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38
# Above what any process of Kiln has open.
_MOST_DESCRIPTORS = 1 << 20


def main(arguments: list[str]) -> None:
    """Limits this process and replaces it by the program.

    Args:
        arguments: CPU seconds, bytes per file written, open files, niceness, the one descriptor that the program inherits beside the
            standard ones (-1 for none), and the command with an absolute path.
    """
    parent = os.getppid()
    cpu, file_bytes, files, niceness, kept = map(int, arguments[:5])
    command = arguments[5:]
    close_all_but(kept)
    limit(cpu, file_bytes, files)
    os.nice(niceness)
    be_first_to_go()
    die_with_parent()
    # The parent may have died before the request.
    if os.getppid() != parent:
        sys.exit(1)
    os.execve(command[0], command, dict(os.environ))


def limit(cpu_seconds: int, file_bytes: int, files: int) -> None:
    """Lowers the limits of this process and its descendants; none is ever raised."""
    # The hard limit comes a second later, for a program that ignores SIGXCPU.
    _lower(resource.RLIMIT_CPU, cpu_seconds, cpu_seconds + 1)
    _lower(resource.RLIMIT_FSIZE, file_bytes, file_bytes)
    _lower(resource.RLIMIT_NOFILE, files, files)
    _lower(resource.RLIMIT_CORE, 0, 0)


def be_first_to_go() -> None:
    """Where memory runs out for everybody, the kernel ends this process before any service."""
    try:
        with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
            file.write("1000")
    except OSError:
        pass


def close_all_but(kept: int) -> None:
    """Closes every descriptor but the standard ones and one: those of whoever started this process are nobody else's."""
    if kept > 2:
        os.closerange(3, kept)
    os.closerange(max(3, kept + 1), _MOST_DESCRIPTORS)


def die_with_parent() -> None:
    """Asks the kernel to kill this process when the one that started it ends, and refuses new privileges."""
    libc = ctypes.CDLL(None, use_errno=True)
    for option, value in ((_PR_SET_PDEATHSIG, _SIGKILL), (_PR_SET_NO_NEW_PRIVS, 1)):
        if libc.prctl(option, value, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl")


def _lower(which: int, soft: int, hard: int) -> None:
    _, ceiling = resource.getrlimit(which)
    if ceiling != resource.RLIM_INFINITY:
        soft, hard = min(soft, ceiling), min(hard, ceiling)
    resource.setrlimit(which, (soft, hard))


if __name__ == "__main__":
    main(sys.argv[1:])
