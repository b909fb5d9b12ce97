"""How the host talks to guests of each kind: one module for each, all behind `GuestAbi`.

A new kind is its line in `libs.common.abi`, a module here, and a line in `GUEST_ABIS`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from libs.common.abi import Abi
from services.executor.sandbox.abi import assemblyscript, kiln, wasi_command
from services.executor.sandbox.guest import Guest
from services.executor.sandbox.host import Host

Answer = Callable[[Guest], bytes]


@dataclass(frozen=True, slots=True)
class GuestAbi:
    """One kind of guest.

    Attributes:
        contract: What its modules export and import.
        functions: The host function behind each import, called with the call's host, the guest's memory and its arguments.
            They end a guest by `raise host.stop(...)` and raise nothing else on purpose.
        begin: Gets a call's host and input before anything of the guest runs, and returns what asks the instance for the output;
            the same rule holds.
    """

    contract: Abi
    functions: Mapping[tuple[str, str], Callable[..., Any]]
    begin: Callable[[Host, bytes], Answer]


_ALL: Final = tuple(GuestAbi(kind.CONTRACT, kind.FUNCTIONS, kind.begin) for kind in (assemblyscript, kiln, wasi_command))

GUEST_ABIS: Final[Mapping[str, GuestAbi]] = {abi.contract.name: abi for abi in _ALL}
