"""A program that tries to get out: run inside of the jail, it prints as JSON what came of each try. Standard library only.

    python hostile.py SUPERVISOR CANARY SOCKET

It ends at once where no filter of system calls holds it: nothing below may ever be tried outside.
"""

import ctypes
import errno
import json
import os
import socket
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

SUPERVISOR, CANARY, SOCKET = int(sys.argv[1]), sys.argv[2], sys.argv[3]
libc = ctypes.CDLL(None, use_errno=True)
PR_GET_SECCOMP, FILTERED = 21, 2
if libc.prctl(PR_GET_SECCOMP, 0, 0, 0, 0) != FILTERED:
    sys.exit("this is not the jail")

# Number on x86_64, on aarch64, and arguments under which an unprivileged caller would get further than the filter.
CALLS: dict[str, tuple[int, int, tuple[object, ...]]] = {
    "unshare": (272, 97, (0x10000000,)),
    "setns": (308, 268, (0, 0)),
    "mount": (165, 40, (b"none", b"/tmp", b"tmpfs", 0, None)),
    "umount2": (166, 39, (b"/tmp", 0)),
    "pivot_root": (155, 41, (b"/", b"/")),
    "chroot": (161, 51, (b"/",)),
    "ptrace": (101, 117, (16, SUPERVISOR, None, None)),
    "process_vm_readv": (310, 270, (SUPERVISOR, None, 0, None, 0, 0)),
    "keyctl": (250, 219, (0, -3, 0)),
    "add_key": (248, 217, (b"user", b"a", b"b", 1, -3)),
    "bpf": (321, 280, (0, None, 0)),
    "perf_event_open": (298, 241, (None, 0, -1, -1, 0)),
    "userfaultfd": (323, 282, (0,)),
    "io_uring_setup": (425, 425, (1, None)),
    "name_to_handle_at": (303, 264, (-100, b"/", None, None, 0)),
    "open_by_handle_at": (304, 265, (-100, None, 0)),
    "syslog": (103, 116, (3, None, 0)),
    "init_module": (175, 105, (None, 0, b"")),
    "reboot": (169, 142, (0, 0, 0, None)),
    "shmget": (29, 194, (0, 4096, 0o1600)),
    "semget": (64, 190, (0, 1, 0o1600)),
    "msgget": (68, 186, (0, 0o1600)),
    "prlimit of the supervisor": (302, 261, (SUPERVISOR, 4, None, ctypes.create_string_buffer(16))),
    "clone3": (435, 435, (None, 0)),
    "clone into a new namespace": (56, 220, (0x10000000 | 17, None, None, None, None)),
}


def outcome(attempt: Callable[[], object]) -> str:
    """What it gave, or the name of its error."""
    try:
        return f"got {attempt()!r}"[:200]
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))


def call(name: str) -> int:
    on_x86, on_arm, arguments = CALLS[name]
    result = int(libc.syscall(on_x86 if os.uname().machine == "x86_64" else on_arm, *arguments))
    if result < 0:
        raise OSError(ctypes.get_errno(), name)
    return result


def connect(family: int, kind: int, address: Any) -> None:
    with socket.socket(family, kind) as one:
        one.connect(address)


def write(path: str) -> None:
    with Path(path).open("ab") as file:
        file.write(b"x")


def fill() -> int:
    """How many bytes go into the files of `/tmp` until there is no room."""
    total = 0
    for number in range(100):
        try:
            with Path(f"/tmp/{number}").open("wb", buffering=0) as file:
                while written := file.write(bytes(1 << 20)):
                    total += written
        except OSError as error:
            if error.errno != errno.EFBIG:
                break
    return total


def environments() -> list[str]:
    """The processes in whose environment the canary can be read."""
    found = []
    for one in Path("/proc").glob("[0-9]*/environ") if Path("/proc").is_dir() else ():
        try:
            if CANARY.encode() in one.read_bytes():
                found.append(str(one))
        except OSError:
            continue
    return found


def status(name: str) -> str:
    try:
        return next(line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{name}:"))
    except OSError:
        return "unknown"


ATTEMPTS: dict[str, Callable[[], object]] = {
    "read the host's users": lambda: Path("/etc/passwd").read_text(),
    "read the canary's file": lambda: Path(f"{SOCKET}.txt").read_text(),
    "list the canary's folder": lambda: os.listdir(Path(SOCKET).parent),
    "write a program": lambda: write("/usr/bin/true"),
    "write into its own folder": lambda: write(__file__),
    "write a device": lambda: write("/dev/mem"),
    "let others into the canary's file": lambda: os.chmod(f"{SOCKET}.txt", 0o777),
    "give the canary's file away": lambda: os.chown(f"{SOCKET}.txt", os.getuid(), os.getgid()),
    "make the canary's file old": lambda: os.utime(f"{SOCKET}.txt", (0, 0)),
    "empty the canary's file": lambda: os.truncate(f"{SOCKET}.txt", 0),
    "mark the canary's file": lambda: os.setxattr(f"{SOCKET}.txt", "user.a", b"b"),
    "signal the supervisor": lambda: os.kill(SUPERVISOR, 0),
    "IPv4": lambda: connect(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 1)),
    "IPv6": lambda: connect(socket.AF_INET6, socket.SOCK_STREAM, ("::1", 1)),
    "UDP": lambda: connect(socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 53)),
    "netlink": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW),
    "packets": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW),
    "a socket in the file system": lambda: connect(socket.AF_UNIX, socket.SOCK_STREAM, SOCKET),
    "an abstract socket": lambda: connect(socket.AF_UNIX, socket.SOCK_STREAM, f"\0{SOCKET}"),
    **{name: partial(call, name) for name in CALLS},
}

print(
    json.dumps(
        {
            "attempts": {name: outcome(attempt) for name, attempt in ATTEMPTS.items()},
            "environment": dict(os.environ),
            "environments": environments(),
            "processes": len(list(Path("/proc").glob("[0-9]*"))) if Path("/proc").is_dir() else 0,
            "uid": os.getuid(),
            "capabilities": status("CapEff"),
            "no new privileges": status("NoNewPrivs"),
            "filled": fill(),
        }
    )
)
