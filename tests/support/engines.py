"""The engine in this process, as a worker has it, and the plain one beside it."""

import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from msgspec.structs import replace

from services.executor.sandbox import Call, Outcome
from services.executor.sandbox.engine import Linkers, Runner, compile_module, new_compiler, new_engine
from services.executor.sandbox.host import Sources
from services.executor.sandbox.watch import Watch
from tests.support.plain_engine import PlainRunner

_CODE_BYTES = 256 << 20


class NoErrands:
    """Nothing comes for anybody."""

    def look(self) -> bool:
        return False

    def give_back(self) -> None:
        pass


class IdleWatch(Watch):
    """Nobody keeps it: it stops nothing."""

    def __init__(self, interrupt: Callable[[], None]) -> None:
        super().__init__(interrupt, NoErrands())


class PromptWatch(IdleWatch):
    """Stops a guest at its deadline with a thread for each: it is gone with the call."""

    def __init__(self, interrupt: Callable[[], None]) -> None:
        super().__init__(interrupt)
        self._move_epoch = interrupt
        self._timer: threading.Timer | None = None

    def begin(self, timeout: float) -> None:
        super().begin(timeout)
        self._timer = threading.Timer(timeout, self._move_epoch)
        self._timer.start()

    def end(self) -> None:
        super().end()
        if self._timer is not None:
            self._timer.cancel()
            self._timer.join()


class HastyWatch(IdleWatch):
    """Stops every guest as soon as it begins."""

    def __init__(self, interrupt: Callable[[], None]) -> None:
        super().__init__(interrupt)
        self._move_epoch = interrupt

    def begin(self, timeout: float) -> None:
        super().begin(0)
        self._move_epoch()


def steady_sources() -> Sources:
    """Time that passes only while a guest sleeps, and chance that is always the same."""
    slept = [0.0]

    def sleep(seconds: float) -> None:
        slept[0] += seconds

    return Sources(
        now=lambda: 1_700_000_000.5,
        elapsed=lambda: 100 + slept[0],
        random=lambda size: bytes(itertools.islice(itertools.cycle(range(1, 256)), size)),
        sleep=sleep,
    )


@contextmanager
def running(watched: Callable[[Callable[[], None]], Watch] = IdleWatch, sources: Sources | None = None) -> Iterator[Runner]:
    """A runner as a worker has it. Nothing but what `watched` makes stops its guests."""
    engine = new_engine()
    yield Runner(engine, watched(engine.increment_epoch), _CODE_BYTES, sources or Sources())


@contextmanager
def plainly_running(watched: Callable[[Callable[[], None]], Watch] = IdleWatch, sources: Sources | None = None) -> Iterator[PlainRunner]:
    """The same, the plain way."""
    yield PlainRunner(watched, sources or Sources())


class Preparer:
    """Makes native code, as the preparer does."""

    def __init__(self) -> None:
        self._engine = new_compiler()
        self._linkers = Linkers(self._engine)

    def compile(self, abi: str, wasm: bytes) -> bytes:
        return compile_module(self._engine, self._linkers, abi, wasm)


class Both:
    """Runs each call twice: by the engine and the plain way, each time with fresh sources."""

    def __init__(self, fast: Runner, plain: PlainRunner) -> None:
        self._fast = fast
        self._plain = plain
        self._preparer = Preparer()

    def load(self, digest: str, abi: str, wasm: bytes) -> None:
        self._fast.load(digest, abi, self._preparer.compile(abi, wasm))
        self._plain.load(digest, abi, wasm)

    def run(self, call: Call) -> tuple[Outcome, Outcome]:
        """What the engine answers and what is right; how long each took is left out."""
        fast = self._fast.run(call)
        assert fast is not None
        return replace(fast, duration_us=0), replace(self._plain.run(call), duration_us=0)


@contextmanager
def running_both(watched: Callable[[Callable[[], None]], Watch] = PromptWatch) -> Iterator[Both]:
    """Both engines, with steady sources."""
    with running(watched, steady_sources()) as fast, plainly_running(watched, steady_sources()) as plain:
        yield Both(fast, plain)
