"""What a call costs that its caller is known, against what the host spends on it in a fresh sandbox, by turns."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Final

from bench.figures import p50, p95, ratio, seconds, table
from libs.common.access.credentials import Kind, new_credential
from libs.common.access.exchange import Exchange
from libs.common.access.guard import TokenGuard
from libs.common.access.service_tokens import ServiceTokens
from libs.common.errors import Unauthenticated
from libs.common.ids import uuid7
from libs.common.policy import policy_of
from services.executor.sandbox import Call
from tests.integration.executor.guests import ECHO
from tests.support.access import SERVICE_SECRET, FakeAuth, Signer, stale
from tests.support.callers import dev
from tests.support.engines import Preparer, running

_INPUT: Final = b'{"order": 17, "lines": [{"sku": "a-1", "quantity": 3}]}'
# So many are timed at once: one alone takes no longer than reading the clock.
_QUESTIONS: Final = 1000
_CALLS: Final = 50
# Changes that are known, as after a busy day.
_CHANGES: Final = 1000
_METHOD: Final = "/kiln.executor.v1.Executor/ExecuteFunction"
_ADDRESS: Final = "192.0.2.7"
_PICKS: Final = (("p50", p50), ("p95", p95))

Ask = Callable[[], Awaitable[object]]


def measure(rounds: int) -> Iterator[str]:
    """A table by way of asking. What the gateway does and what a service does come together in one call."""
    preparer = Preparer()
    with running() as sandbox, asyncio.Runner() as runner:
        sandbox.load(ECHO.digest, ECHO.abi, preparer.compile(ECHO.abi, ECHO.wasm))
        call = Call(ECHO.digest, ECHO.abi, _INPUT)
        rows = []
        for name, ask in runner.run(_ways()).items():
            ours: list[float] = []
            theirs: list[float] = []
            for _ in range(rounds):
                ours.append(runner.run(_asked(ask)))
                theirs.append(_called(lambda: sandbox.run(call)))
            rows += [[f"{name}, {pick}", seconds(of(ours)), seconds(of(theirs)), ratio(of(ours), of(theirs))] for pick, of in _PICKS]
    yield table(["who calls", "to know it", "the call in the sandbox", "ratio"], rows)


async def _ways() -> dict[str, Ask]:
    """Everything is remembered, as it is for all calls of a caller but the first in some minutes."""
    signer = Signer()
    state, user = signer.state(), dev(api_key=str(uuid7()), groups=frozenset(str(uuid7()) for _ in range(5)))
    state.hear([], [one for _ in range(_CHANGES) for one in stale(str(uuid7()), 2)])
    auth = FakeAuth(signer, Unauthenticated("there is no such key"))
    key = new_credential(Kind.API_KEY).text
    auth.principals[key] = user
    exchange = Exchange(auth, state)
    # However long it is measured, nothing new is to be heard.
    guard = TokenGuard(exchange, ServiceTokens(SERVICE_SECRET, "executor"), grace_seconds=3600)
    policy = policy_of(_METHOD)
    of_token, of_key = f"Bearer {signer.token(user)}", f"Bearer {key}"
    await guard.admit(policy, of_token, _ADDRESS)
    await guard.admit(policy, of_key, _ADDRESS)

    async def recall() -> Any:
        return guard.recall(policy, of_token)

    return {
        "`Exchange.token` of a key, in the gateway": lambda: exchange.token(key, _ADDRESS),
        "`TokenGuard.recall` of a token, in a service": recall,
        "`TokenGuard.admit` of a key, in a service": lambda: guard.admit(policy, of_key, _ADDRESS),
    }


async def _asked(ask: Ask) -> float:
    """Seconds of a question."""
    began = time.perf_counter()
    for _ in range(_QUESTIONS):
        await ask()
    return (time.perf_counter() - began) / _QUESTIONS


def _called(call: Callable[[], object]) -> float:
    """Seconds of a call."""
    began = time.perf_counter()
    for _ in range(_CALLS):
        call()
    return (time.perf_counter() - began) / _CALLS
