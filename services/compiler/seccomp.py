"""The system calls a jailed compiler may not make, as a filter in the kernel's classic BPF.

A list of what is refused, not of what is allowed: compilers are large programs by others, and what they use changes with each release.
What is refused opens parts of the kernel that no compiler needs and that exploits begin with. Where the host's files and processes are
there, only out of reach, more is refused: what their owner may do to them without opening them.

Sources: linux/filter.h, linux/seccomp.h, linux/audit.h, and the tables of system calls (arch/x86/entry/syscalls/syscall_64.tbl,
include/uapi/asm-generic/unistd.h).
"""

import errno
import platform
import struct
from collections.abc import Iterator, Mapping
from typing import Final

# Instructions: load a word of the call's data, compare, return.
_LOAD, _JUMP_IF_EQUAL, _JUMP_IF_GREATER_OR_EQUAL, _JUMP_IF_ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
# Places in struct seccomp_data; the lower halves of the arguments, on little-endian machines.
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16
_ALLOW, _KILL, _ERRNO = 0x7FFF_0000, 0x8000_0000, 0x0005_0000
_X32_BIT: Final = 0x4000_0000
_AF_UNIX: Final = 1
# No family has this number.
_NO_FAMILY: Final = 0xFFFF
# CLONE_NEWTIME, NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET.
_NEW_NAMESPACES: Final = 0x7E02_0080

# Machine → its number in audit.h.
_ARCHITECTURES: Final[Mapping[str, int]] = {"x86_64": 0xC000_003E, "aarch64": 0xC000_00B7}
# System calls that are refused whatever their arguments: number on x86_64, on aarch64.
_REFUSED: Final[Mapping[str, tuple[int, int]]] = {
    "acct": (163, 89),
    "add_key": (248, 217),
    "bpf": (321, 280),
    "chroot": (161, 51),
    "clock_adjtime": (305, 266),
    "clock_settime": (227, 112),
    "delete_module": (176, 106),
    "finit_module": (313, 273),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fsopen": (430, 430),
    "fspick": (433, 433),
    "init_module": (175, 105),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "io_uring_setup": (425, 425),
    "kcmp": (312, 272),
    "kexec_file_load": (320, 294),
    "kexec_load": (246, 104),
    "keyctl": (250, 219),
    "lookup_dcookie": (212, 18),
    "mount": (165, 40),
    "mount_setattr": (442, 442),
    "mq_open": (240, 180),
    "msgget": (68, 186),
    "move_mount": (429, 429),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "open_tree": (428, 428),
    "perf_event_open": (298, 241),
    "personality": (135, 92),
    "pidfd_getfd": (438, 438),
    "pivot_root": (155, 41),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "ptrace": (101, 117),
    "quotactl": (179, 60),
    "reboot": (169, 142),
    "request_key": (249, 218),
    "semget": (64, 190),
    "setns": (308, 268),
    "settimeofday": (164, 170),
    "shmget": (29, 194),
    "swapoff": (168, 225),
    "swapon": (167, 224),
    "syslog": (103, 116),
    "umount2": (166, 39),
    "unshare": (272, 97),
    "userfaultfd": (323, 282),
    "vhangup": (153, 58),
}
# The same for jails in which the host's files and processes are still there; None where a machine does not have the call.
_REFUSED_AMONG_OTHERS: Final[Mapping[str, tuple[int | None, int | None]]] = {
    "chmod": (90, None),
    "chown": (92, None),
    "fchown": (93, 55),
    "fchownat": (260, 54),
    "fremovexattr": (199, 16),
    "fsetxattr": (190, 7),
    "futimesat": (261, None),
    "kill": (62, 129),
    "lchown": (94, None),
    "lremovexattr": (198, 15),
    "lsetxattr": (189, 6),
    "pidfd_open": (434, 434),
    "pidfd_send_signal": (424, 424),
    "removexattr": (197, 14),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    "sched_setaffinity": (203, 122),
    "sched_setattr": (314, 274),
    "sched_setparam": (142, 118),
    "sched_setscheduler": (144, 119),
    "setpriority": (141, 140),
    "setxattr": (188, 5),
    "tkill": (200, 130),
    "utime": (132, None),
    "utimensat": (280, 88),
    "utimes": (235, None),
}
# Answered as if it had been done: linkers end when they may not make executable what they have written.
_MADE_EXECUTABLE: Final[Mapping[str, tuple[int, int]]] = {"fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452)}
_CLONE, _CLONE3, _SOCKET, _PRLIMIT = (56, 220), (435, 435), (41, 198), (302, 261)


def supported() -> bool:
    """Whether there is a filter for this machine."""
    return platform.machine() in _ARCHITECTURES


def program(machine: str = platform.machine(), *, among_others: bool = False) -> bytes:
    """The filter: an array of struct sock_filter.

    Args:
        machine: Whose numbers.
        among_others: Whether the host's files and processes are there.

    Calls of another architecture's numbers kill the process. Namespaces, kernel keys, mounts, tracing and such are EPERM. `clone3`
    does not exist, since a filter cannot see its flags; libraries then use `clone`. Sockets are of the Unix kind alone, among others none.

    Raises:
        KeyError: there is none for the machine.
    """
    column = list(_ARCHITECTURES).index(machine)
    refused = [*_REFUSED.values(), *(_REFUSED_AMONG_OTHERS.values() if among_others else ())]
    instructions = [
        _instruction(_LOAD, value=_ARCHITECTURE),
        _instruction(_JUMP_IF_EQUAL, skip_if_so=1, value=_ARCHITECTURES[machine]),
        _instruction(_RETURN, value=_KILL),
        _instruction(_LOAD, value=_NUMBER),
        _instruction(_JUMP_IF_GREATER_OR_EQUAL, skip_if_not=1, value=_X32_BIT),
        _instruction(_RETURN, value=_KILL),
        *(part for numbers in refused for number in [numbers[column]] if number is not None for part in _refuse(number, errno.EPERM)),
        *(part for numbers in _MADE_EXECUTABLE.values() if among_others for part in _refuse(numbers[column], 0)),
        *_refuse(_CLONE3[column], errno.ENOSYS),
        # Their flags and their family are the first argument.
        *_refuse_by_argument(_CLONE[column], _instruction(_JUMP_IF_ANY_BIT, skip_if_not=1, value=_NEW_NAMESPACES), errno.EPERM),
        *_refuse_by_argument(
            _SOCKET[column], _instruction(_JUMP_IF_EQUAL, skip_if_so=1, value=_NO_FAMILY if among_others else _AF_UNIX), errno.EAFNOSUPPORT
        ),
        # Limits of others; 0 is the caller itself.
        *_refuse_by_argument(_PRLIMIT[column], _instruction(_JUMP_IF_EQUAL, skip_if_so=1, value=0), errno.EPERM),
        _instruction(_RETURN, value=_ALLOW),
    ]
    return b"".join(instructions)


def _refuse(number: int, code: int) -> Iterator[bytes]:
    yield _instruction(_JUMP_IF_EQUAL, skip_if_not=1, value=number)
    yield _instruction(_RETURN, value=_ERRNO | code)


def _refuse_by_argument(number: int, test: bytes, code: int) -> Iterator[bytes]:
    """Refuses a call unless the test of its first argument skips the refusal; every other call goes on with its number loaded."""
    yield _instruction(_JUMP_IF_EQUAL, skip_if_not=4, value=number)
    yield _instruction(_LOAD, value=_FIRST_ARGUMENT)
    yield test
    yield _instruction(_RETURN, value=_ERRNO | code)
    yield _instruction(_RETURN, value=_ALLOW)


def _instruction(code: int, *, skip_if_so: int = 0, skip_if_not: int = 0, value: int) -> bytes:
    """One struct sock_filter: after a jump that many instructions are skipped."""
    return struct.pack("=HBBI", code, skip_if_so, skip_if_not, value)
