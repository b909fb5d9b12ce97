"""What a worker and the preparer have in common as processes."""

import codecs
import os
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from services.executor.sandbox.containment import Containment, contain, forbid_new_tasks
from services.executor.sandbox.desk import Desk
from services.executor.sandbox.engine import MAX_WASM_STACK_BYTES
from services.executor.sandbox.watch import SupervisorGone
from services.executor.sandbox.wire import Ready

MAX_MESSAGE_BYTES: Final = 512 << 20

# Below twice the guest's stack, host functions called at its end would run into the guard page.
_THREAD_STACK_BYTES: Final = 8 * MAX_WASM_STACK_BYTES
# Codecs are imported when they are first used, and nothing can be imported any more then.
_CODECS: Final = ("utf-8", "utf-16-le", "unicode_escape")


@dataclass(frozen=True, slots=True)
class Arguments:
    """What the supervisor tells a process that it starts.

    Attributes:
        descriptor: Of the socket to the supervisor.
        files: Of the socket on which files come from it.
        supervisor: Its process id.
        uid: Whom to become when started as root.
        max_data_bytes: How much memory the process may have for itself.
        code_bytes: How much native code a worker holds ready.
    """

    descriptor: int
    files: int
    supervisor: int
    uid: int
    max_data_bytes: int
    code_bytes: int

    def to_argv(self) -> list[str]:
        """As command-line arguments."""
        return [str(number) for number in (self.descriptor, self.files, self.supervisor, self.uid, self.max_data_bytes, self.code_bytes)]

    @classmethod
    def of_argv(cls) -> "Arguments":
        """From this process's command line."""
        return cls(*map(int, sys.argv[1:]))


def enter(arguments: Arguments) -> tuple[socket.socket, Containment]:
    """The socket to the supervisor. From here on, the process is contained, except that it can still start threads."""
    # Ctrl-C reaches the whole terminal; the supervisor decides when its processes end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for name in _CODECS:
        codecs.lookup(name)
    stream = socket.socket(fileno=arguments.descriptor)
    return stream, contain(arguments.uid, arguments.supervisor, arguments.max_data_bytes)


def say_ready(desk: Desk, contained: Containment) -> None:
    """Forbids what was still needed to start, and tells the supervisor that requests are welcome."""
    forbid_new_tasks()
    desk.say(Ready(contained.uid, contained.own_network))


def start_thread(serve: Callable[[], None]) -> None:
    """Serves on a thread with room for a guest's stack. The process ends with it."""

    def serve_and_exit() -> None:
        status = 1
        try:
            serve()
            status = 0
        except SupervisorGone:
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)

    threading.stack_size(_THREAD_STACK_BYTES)
    threading.Thread(target=serve_and_exit, daemon=True).start()
