"""Server reflection for every tool: gRPC's own pool knows the file of a service or a message, but not that of a method or a field."""

from typing import Any

from google.protobuf import descriptor_pool


class ReflectedPool:
    """The default pool of descriptors, where a symbol that it does not know is looked for in what encloses it."""

    def __init__(self) -> None:
        self._pool: Any = descriptor_pool.Default()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)

    def FindFileContainingSymbol(self, symbol: str) -> Any:  # noqa: N802  (protobuf's name)
        """The file that declares a symbol.

        Raises:
            KeyError: nothing of that name is loaded.
        """
        try:
            return self._pool.FindFileContainingSymbol(symbol)
        except KeyError:
            return self._pool.FindFileContainingSymbol(symbol.rpartition(".")[0])
