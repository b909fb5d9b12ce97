"""Values of variables at rest: sealed, each for its own row."""

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from libs.common.sealing import Sealer


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable as it is stored.

    Attributes:
        sealed: Its value.
        secret: Whether that is for functions alone.
    """

    sealed: bytes
    secret: bool


class Vault:
    """Seals and opens the values of environments."""

    def __init__(self, sealer: Sealer) -> None:
        self._sealer = sealer

    @property
    def keys(self) -> frozenset[bytes]:
        """Names of the keys that it opens with."""
        return self._sealer.keys

    @property
    def first_key(self) -> bytes:
        """The name of the key that it seals with."""
        return self._sealer.first_key

    def seal(self, environment: UUID, name: str, value: str, *, secret: bool) -> Variable:
        """A variable to store."""
        return Variable(self._sealer.seal(value.encode(), _place(environment, name, secret)), secret)

    def open(self, environment: UUID, name: str, variable: Variable) -> str:
        """The value of a variable.

        Raises:
            Unopenable: it was changed, is another variable's, or its key is not known here.
        """
        return self._sealer.open(variable.sealed, _place(environment, name, variable.secret)).decode()

    def open_all(self, environment: UUID, variables: Mapping[str, Variable]) -> dict[str, str]:
        """The values of an environment by name.

        Raises:
            Unopenable: one cannot be opened.
        """
        return {name: self.open(environment, name, variable) for name, variable in variables.items()}


def size_of(variables: Mapping[str, Variable]) -> int:
    """Bytes of UTF-8 that variables have with their names, without opening them."""
    return sum(len(name) + Sealer.size_of(variable.sealed) for name, variable in variables.items())


def _place(environment: UUID, name: str, secret: bool) -> str:
    """Where a value belongs. Whether it is secret is part of that, so that no row can be made to tell."""
    return f"registry.variables/{environment}/{name}/{'secret' if secret else 'plain'}"
