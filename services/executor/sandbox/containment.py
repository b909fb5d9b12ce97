"""Takes from this process what it does not need, before it meets a stranger's code. Linux only; nothing here can be undone.

After the uid is dropped the process may be unable to read its own program, below a folder closed to others: import all before.
"""

import ctypes
import os
import resource
import signal
from dataclasses import dataclass
from typing import Final

_CLONE_NEWUSER: Final = 0x1000_0000
_CLONE_NEWNET: Final = 0x4000_0000
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_DUMPABLE: Final = 4
_PR_SET_NO_NEW_PRIVS: Final = 38
_CAPABILITY_VERSION_3: Final = 0x2008_0522

# Each loaded module has a descriptor; the images of their memories are files to the kernel, though in memory.
_MAX_DESCRIPTORS: Final = 1024
_MAX_FILE_BYTES: Final = 1 << 30

_libc: Final = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Containment:
    """How far it went.

    Attributes:
        uid: The user that this process is.
        own_network: Whether it sits in a network namespace of its own, which has nothing in it.
    """

    uid: int
    own_network: bool


def contain(uid: int, supervisor: int, max_data_bytes: int) -> Containment:
    """Contains this process, which must have one thread. What the system does not permit is left out and told.

    Args:
        uid: The unprivileged user and group to become when this process is root's.
        supervisor: Process id of the parent; when that dies, so does this process.
        max_data_bytes: How much memory it may have for itself.

    Raises:
        ProcessLookupError: The parent is gone already.
    """
    os.umask(0o077)
    _limit_resources(max_data_bytes)
    own_network = _unshare(_CLONE_NEWNET) if os.geteuid() == 0 else _unshare(_CLONE_NEWUSER | _CLONE_NEWNET)
    _drop_privileges(uid)
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    # Others of the same uid cannot trace it then, its fellow workers among them.
    _prctl(_PR_SET_DUMPABLE, 0)
    # The kernel forgets this one when the uid changes, so it comes last.
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != supervisor:
        raise ProcessLookupError("the supervisor is gone")
    return Containment(os.geteuid(), own_network)


def forbid_new_tasks() -> None:
    """No process and no thread can be started any more. The limit counts all that a user has, so it is zero, and comes last."""
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))


def _limit_resources(max_data_bytes: int) -> None:
    for kind, most in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, _MAX_DESCRIPTORS),
        (resource.RLIMIT_FSIZE, _MAX_FILE_BYTES),
        (resource.RLIMIT_DATA, max_data_bytes),
    ):
        hard = resource.getrlimit(kind)[1]
        bound = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (bound, bound))


def _drop_privileges(uid: int) -> None:
    if os.geteuid() != 0:
        _drop_capabilities()
        return
    try:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    except OSError:
        # A container may have neither the right nor such a user; the uid that is reported shows it.
        _drop_capabilities()


def _drop_capabilities() -> None:
    """Those of the new user namespace, which would open more of the kernel to an attacker than the process had before."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    nothing = (ctypes.c_uint32 * 6)()
    _libc.capset(header, nothing)


def _unshare(flags: int) -> bool:
    return int(_libc.unshare(flags)) == 0


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl {option}")
