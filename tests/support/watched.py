"""A registry and a compiler that say what a test says, for executors that follow them."""

import hashlib
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import grpc
from kiln.compiler.v1 import compiler_pb2
from kiln.registry.v1 import registry_pb2 as pb

from libs.common.errors import NotFound
from libs.common.ids import uuid7
from tests.support.services import Services, fail


class Registry:
    """Tells every watcher the same, and answers for functions that it was given.

    Attributes:
        heard: What the watchers acknowledged: ids and revisions.
        unwatched: Functions by name that only `ResolveVersion` knows of.
    """

    def __init__(self, services: Services) -> None:
        self.heard: list[tuple[str, int]] = []
        self.unwatched: dict[str, pb.ResolveVersionResponse] = {}
        self._events: list[pb.WatchResponse] = []
        self._artifacts: dict[str, bytes] = {}
        self._changed = threading.Condition()
        self._revision = 0
        services.on("Watch", self._watch)
        services.on("ResolveVersion", self._resolve)
        services.on("GetArtifact", self._artifact)

    def end_snapshot(self) -> None:
        """What was told so far is the snapshot."""
        self._say(pb.WatchResponse(snapshot_end=self._revision))

    def function(
        self,
        wasm: bytes,
        *,
        version: int = 1,
        name: str = "",
        identity: str = "",
        timeout_ms: int = 5000,
        max_concurrency: int = 256,
    ) -> pb.WatchedFunction:
        """A function whose live version is a module; nobody is told of it."""
        digest = f"sha256:{hashlib.sha256(wasm).hexdigest()}"
        self._artifacts[digest] = wasm
        self._revision += 1
        identity = identity or str(uuid7())
        return pb.WatchedFunction(
            id=identity,
            name=name or f"f{identity}",
            revision=self._revision,
            live=pb.RunnableVersion(version=version, artifact_digest=digest, abi="assemblyscript"),
            limits=pb.Limits(
                timeout_ms=timeout_ms, memory_mb=64, max_output_bytes=1 << 20, max_log_bytes=1 << 16, max_concurrency=max_concurrency
            ),
        )

    def announce(self, function: pb.WatchedFunction) -> None:
        """Tells of a function; waits for nobody."""
        self._say(pb.WatchResponse(function=function))

    def deploy(self, wasm: bytes, **facts: Any) -> pb.WatchedFunction:
        """Tells of such a function, and waits until a watcher has acknowledged it."""
        function = self.function(wasm, **facts)
        self.tell(function)
        return function

    def delete(self, function: pb.WatchedFunction) -> None:
        """Tells that a function is deleted, and waits until a watcher has acknowledged it."""
        self._revision += 1
        self.tell(pb.WatchedFunction(id=function.id, name=function.name, revision=self._revision, deleted=True))

    def tell(self, function: pb.WatchedFunction) -> None:
        """Tells of a function, and waits until a watcher has acknowledged it."""
        self.announce(function)
        self._until(lambda: (function.id, function.revision) in self.heard)

    def answer_for(self, function: pb.WatchedFunction) -> None:
        """Knows of a function when asked, and tells no watcher."""
        self.unwatched[function.name] = self.unwatched[function.id] = pb.ResolveVersionResponse(function=function, version=function.live)

    def _say(self, event: pb.WatchResponse) -> None:
        with self._changed:
            self._events.append(event)
            self._changed.notify_all()

    def _until(self, condition: Callable[[], bool], seconds: float = 20) -> None:
        with self._changed:
            assert self._changed.wait_for(condition, seconds), f"heard only {self.heard}"

    def _watch(self, words: Iterator[pb.WatchRequest], context: grpc.ServicerContext) -> Iterator[pb.WatchResponse]:
        threading.Thread(target=self._hear, args=(words,), daemon=True).start()
        told = 0
        while context.is_active():
            with self._changed:
                if not (events := self._events[told:]):
                    self._changed.wait(0.1)
            told += len(events)
            yield from events

    def _hear(self, words: Iterator[pb.WatchRequest]) -> None:
        try:
            for word in words:
                with self._changed:
                    self.heard.append((word.id, word.revision))
                    self._changed.notify_all()
        except grpc.RpcError:
            # The watcher has gone.
            return

    def _resolve(self, request: pb.ResolveVersionRequest, context: grpc.ServicerContext) -> pb.ResolveVersionResponse:
        if request.id not in self.unwatched:
            fail(context, NotFound(f"there is no function {request.id!r}", reason="FUNCTION_NOT_FOUND"))
        return self.unwatched[request.id]

    def _artifact(self, request: compiler_pb2.GetArtifactRequest, context: grpc.ServicerContext) -> Sequence[Any]:
        if request.digest not in self._artifacts:
            fail(context, NotFound("there is no such artifact", reason="ARTIFACT_NOT_FOUND"))
        return [compiler_pb2.GetArtifactResponse(chunk=self._artifacts[request.digest])]
