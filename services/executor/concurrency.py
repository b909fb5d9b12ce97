"""How many runs of each function there are, so that none takes what belongs to all."""

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from libs.common.errors import ResourceExhausted
from services.executor.catalog import CatalogFunction


class Concurrency:
    """The runs that go on in one executor, by function."""

    def __init__(self) -> None:
        self._runs: dict[UUID, int] = {}

    @contextmanager
    def place(self, function: CatalogFunction) -> Iterator[None]:
        """Counts one run of a function while the block lasts.

        Raises:
            ResourceExhausted: there are as many as its limit lets there be.
        """
        runs = self._runs.get(function.id, 0)
        if runs >= function.max_concurrency:
            raise _full(function)
        self._runs[function.id] = runs + 1
        try:
            yield
        finally:
            self._leave(function.id)

    def _leave(self, identity: UUID) -> None:
        self._runs[identity] -= 1
        if not self._runs[identity]:
            del self._runs[identity]


def _full(function: CatalogFunction) -> ResourceExhausted:
    limit = function.max_concurrency
    return ResourceExhausted(
        f"{function.name} has {limit} run{'s' if limit > 1 else ''} at once already, and its limits.maxConcurrency lets it have no more: "
        "try again soon, or raise that limit with UpdateFunction (PUT /functions/{id})",
        reason="TOO_MANY_CONCURRENT_CALLS",
        metadata={"limit": "maxConcurrency", "value": str(limit)},
        retry_after=1,
    )
