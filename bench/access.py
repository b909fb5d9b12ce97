"""What a call costs that its caller is known: against what the host spends on it in a fresh sandbox, by turns, and the whole call against
one of a platform where nobody is asked.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Final

from bench.figures import p50, p95, ratio, seconds, table
from bench.platform import running as running_platform
from bench.serving import turns
from bench.serving.processes import Processes
from bench.serving.turns import Turn
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
# Of a platform, for so many of the questions.
_ROUNDS_A_TURN: Final = 40
_CONNECTIONS: Final = (1, 128)

Ask = Callable[[], object]


def measure(rounds: int) -> Iterator[str]:
    """A table by way of asking, of which the gateway's and a service's come together in one call, and one of whole calls."""
    yield _of_questions(rounds)
    yield _of_calls(-(-rounds // _ROUNDS_A_TURN))


def _of_questions(rounds: int) -> str:
    preparer = Preparer()
    with running() as sandbox, asyncio.Runner() as runner:
        sandbox.load(ECHO.digest, ECHO.abi, preparer.compile(ECHO.abi, ECHO.wasm))
        call = Call(ECHO.digest, ECHO.abi, _INPUT)
        rows = []
        for name, ask in runner.run(_ways()).items():
            ours: list[float] = []
            theirs: list[float] = []
            for _ in range(rounds):
                ours.append(_taken(ask, _QUESTIONS))
                theirs.append(_taken(lambda: sandbox.run(call), _CALLS))
            rows += [[f"{name}, {pick}", seconds(of(ours)), seconds(of(theirs)), ratio(of(ours), of(theirs))] for pick, of in _PICKS]
    return table(["who calls", "to know it", "the call in the sandbox", "ratio"], rows)


def _of_calls(rounds: int) -> str:
    taken: dict[tuple[str, int], list[Turn]] = {(auth, connections): [] for auth in ("on", "off") for connections in _CONNECTIONS}
    for _ in range(rounds):
        for auth in ("on", "off"):
            with running_platform(KILN_AUTH=auth) as client:
                processes = Processes()
                for connections in _CONNECTIONS:
                    taken[auth, connections].append(turns.kiln(client, processes, connections))
    return table(
        ["connections", "asked who calls", "`KILN_AUTH=off`", "ratio"],
        [
            row
            for connections in _CONNECTIONS
            for row in turns.rows(str(connections), (*turns.LOAD, turns.PROCESSOR), taken["on", connections], taken["off", connections])
        ],
    )


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

    return {
        "`Exchange.remembered` of a key, in the gateway": lambda: exchange.remembered(key),
        "`TokenGuard.recall` of a token, in a service": lambda: guard.recall(policy, of_token),
        "`TokenGuard.recall` of a key, in a service": lambda: guard.recall(policy, of_key),
    }


def _taken(ask: Ask, times: int) -> float:
    """Seconds that it takes, the mean of so many times."""
    began = time.perf_counter()
    for _ in range(times):
        ask()
    return (time.perf_counter() - began) / times
