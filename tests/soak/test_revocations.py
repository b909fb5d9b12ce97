"""What has ended is refused by every service within seconds, whichever way it is asked, also when services start again meanwhile."""

import os
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc
import httpx
import pytest
from kiln.auth.v1 import auth_pb2, auth_pb2_grpc
from kiln.compiler.v1 import compiler_pb2, compiler_pb2_grpc
from kiln.executor.v1 import executor_pb2, executor_pb2_grpc
from kiln.registry.v1 import registry_pb2, registry_pb2_grpc

from tests.support.platform import ECHO, Platform, running_platform
from tests.support.waiting import within

# How long a call may still be answered after that which its caller calls with has ended.
SECONDS: Final = 5
# How long services may take to be back and refuse.
BACK_SECONDS: Final = 60
PASSWORD: Final = "nine horses cross a frozen lake"
OWN_PAGE: Final = {"sec-fetch-site": "same-origin"}
SERVICES: Final = ("registry", "executor", "compiler", "auth", "gateway")
FUNCTION: Final = "for-the-group"
# Whether a call was answered, by the way it was made.
Ways = Mapping[str, Callable[[], bool]]


@dataclass(frozen=True)
class Credential:
    """Somebody who may call, until `end` has been called."""

    headers: Mapping[str, str]
    end: Callable[[], httpx.Response]


def new_credential(platform: Platform, how: str, name: str, group: str) -> Credential:
    """A new user in the group that may call the function, and how it loses that."""
    platform.made("/users", name=name, password=PASSWORD)
    platform.http.post(f"/groups/{group}/members", json={"user": name}).raise_for_status()
    if how in ("signed out", "session ended", "password changed"):
        with httpx.Client(base_url=platform.http.base_url, headers=OWN_PAGE, trust_env=False) as browser:
            browser.post("/auth/login", json={"name": name, "password": PASSWORD}).raise_for_status()
            headers = {**OWN_PAGE, "cookie": "; ".join(f"{cookie}={value}" for cookie, value in browser.cookies.items())}
        session = platform.http.get("/sessions", params={"user": name}).json()["sessions"][0]["id"]
        ends = {
            "signed out": lambda: httpx.post(f"{platform.http.base_url}/auth/logout", headers=headers, trust_env=False),
            "session ended": lambda: platform.http.delete(f"/sessions/{session}"),
            "password changed": lambda: platform.http.put(f"/users/{name}", json={"password": PASSWORD + " again"}),
        }
        return Credential(headers, ends[how])
    key = platform.made("/api-keys", name="a key", user=name)
    ends = {
        "revoked": lambda: platform.http.delete(f"/api-keys/{key['id']}"),
        "disabled": lambda: platform.http.put(f"/users/{name}", json={"disabled": True}),
        "deleted": lambda: platform.http.delete(f"/users/{name}"),
        "rotated": lambda: platform.http.post(f"/api-keys/{key['id']}/rotate", json={"overlapHours": 0}),
        "out of the group": lambda: platform.http.delete(f"/groups/{group}/members/{name}"),
    }
    return Credential({"authorization": f"Bearer {key['key']}"}, ends[how])


HOWS: Final = ("revoked", "disabled", "deleted", "rotated", "out of the group", "signed out", "session ended", "password changed")


@contextmanager
def ways_of(platform: Platform, how: str, headers: Mapping[str, str]) -> Iterator[Ways]:
    """Every way in, and at each a call of every service: by REST and, for a key, by the front door and without the gateway."""
    about_function = {
        "executor": ("POST", f"/functions/{FUNCTION}/execute"),
        "registry": ("GET", f"/functions/{FUNCTION}"),
    }
    others = {"compiler": ("GET", "/languages"), "auth": ("GET", "/auth/whoami")}
    with ExitStack() as stack:
        client = stack.enter_context(httpx.Client(base_url=platform.http.base_url, headers=headers, timeout=30, trust_env=False))
        ways: dict[str, Callable[[], bool]] = {
            f"REST {name}": lambda method=method, path=path: _by_rest(client, method, path)  # type: ignore[misc]
            for name, (method, path) in {**about_function, **({} if how == "out of the group" else others)}.items()
        }
        if authorization := headers.get("authorization"):
            metadata = [("authorization", authorization)]
            for place in ("front door", "service"):
                for name in about_function if how == "out of the group" else (*about_function, *others):
                    address = platform.grpc_address if place == "front door" else platform.address_of(name)
                    channel = stack.enter_context(grpc.insecure_channel(address, options=[("grpc.max_reconnect_backoff_ms", 200)]))
                    ways[f"{place} {name}"] = lambda name=name, channel=channel: _by_grpc(name, channel, metadata)  # type: ignore[misc]
        yield ways


def _by_rest(client: httpx.Client, method: str, path: str) -> bool:
    try:
        answer = client.request(method, path, json={} if method == "POST" else None)
    except httpx.TransportError:
        return False
    assert answer.status_code in (200, 401, 404, 503), answer.text
    return answer.status_code == 200


def _by_grpc(service: str, channel: grpc.Channel, metadata: Any) -> bool:
    calls: Mapping[str, tuple[Any, Any]] = {
        "registry": (registry_pb2_grpc.RegistryStub(channel).GetFunction, registry_pb2.GetFunctionRequest(id=FUNCTION)),
        "executor": (executor_pb2_grpc.ExecutorStub(channel).ExecuteFunction, executor_pb2.ExecuteFunctionRequest(id=FUNCTION)),
        "compiler": (compiler_pb2_grpc.CompilerStub(channel).ListLanguages, compiler_pb2.ListLanguagesRequest()),
        "auth": (auth_pb2_grpc.AuthStub(channel).GetCaller, auth_pb2.GetCallerRequest()),
    }
    call, request = calls[service]
    refused = (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNAVAILABLE)
    try:
        call(request, metadata=metadata, timeout=30)
    except grpc.RpcError as error:
        if error.code() not in refused:
            raise
        return False
    return True


def is_whole(platform: Platform) -> bool:
    """Whether every service is there for the administrator."""
    try:
        calls = [platform.http.get("/health"), platform.http.post(f"/functions/{FUNCTION}/execute", json={})]
        calls += [platform.http.get(path) for path in (f"/functions/{FUNCTION}", "/languages", "/auth/whoami")]
    except httpx.TransportError:
        return False
    return all(one.status_code == 200 for one in calls) and all(
        service["status"] == "UP" for service in calls[0].json()["services"].values()
    )


def test_what_has_ended_is_refused_everywhere_within_seconds(home: Path) -> None:
    seed, rounds = int(os.environ.get("SOAK_SEED", random.randrange(10**6))), int(os.environ.get("SOAK_ROUNDS", "50"))
    print(f"\nSOAK_SEED={seed} SOAK_ROUNDS={rounds}")
    chance = random.Random(seed)
    slowest = 0.0
    with running_platform(home / "revocations") as platform:
        group = platform.made("/groups", name="callers")["id"]
        platform.deploy(FUNCTION, ECHO, allowedGroups=[group])
        for number in range(rounds):
            how, killed = chance.choice(HOWS), chance.choice((None, *SERVICES))
            # What auth has not told yet when it dies is known as soon as it is back, which may be later.
            before = killed == "auth" or chance.random() < 0.5
            took = one_round(platform, new_credential(platform, how, f"user-{number}", group), how, killed, before=before)
            slowest = max(slowest, took)
            print(f"{number:4} {how}, {killed or 'nothing'} killed {'before' if before else 'behind'} it: answered for {took:.2f} s more")
    print(f"the slowest: {slowest:.2f} s")


def one_round(platform: Platform, credential: Credential, how: str, killed: str | None, *, before: bool) -> float:
    """Ends one credential; returns for how many seconds any way still answered it."""
    with ways_of(platform, how, credential.headers) as ways:
        within(BACK_SECONDS, lambda: all(call() for call in ways.values()))
        if killed and before:
            platform.process(killed).kill()
            if killed in ("auth", "gateway"):
                # Without these nothing can be ended.
                within(BACK_SECONDS, lambda: is_whole(platform))
        ended_at = time.monotonic()
        credential.end().raise_for_status()
        if killed and not before:
            platform.process(killed).kill()

        took, quiet_since = 0.0, time.monotonic()
        while not (time.monotonic() - quiet_since > 1 and is_whole(platform)):
            asked_at = time.monotonic()
            answered = [way for way, call in ways.items() if call()]
            if answered:
                took, quiet_since = asked_at - ended_at, time.monotonic()
                assert took <= SECONDS, (how, killed, answered)
            assert asked_at - ended_at < BACK_SECONDS
        if any(call() for call in ways.values()):
            pytest.fail(f"{how}, {killed} killed: answered again")
        return took
