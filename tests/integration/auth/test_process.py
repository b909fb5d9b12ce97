"""The auth service as a process: it sets its database up, shares it with others, and does not start with settings that cannot be used."""

import asyncio
import base64
import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import pytest
from kiln.auth.v1 import auth_pb2 as pb
from kiln.auth.v1 import auth_pb2_grpc

from libs.common.channel import open_channel
from libs.common.postgres import open_database
from libs.local.ports import free_ports
from tests.support.auth import GOOD, HOME, AuthWorld
from tests.support.postgres import TestPostgres
from tests.support.processes import ROOT, environment, running_service

KEY: Final = base64.b64encode(bytes(range(32))).decode()


async def key_set(address: str) -> list[str]:
    async with open_channel(address, None) as channel:
        stub = auth_pb2_grpc.AuthStub(channel)
        answer: pb.KeySet = await stub.GetKeySet(pb.GetKeySetRequest())
        return [key.kid for key in answer.keys]


async def starting(url: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    """A start that must not succeed."""
    settings = {
        "KILN_AUTH": "off",
        "KILN_DATABASE_URL": url,
        "KILN_SEALING_KEY": KEY,
        "KILN_LISTEN_ADDRESS": f"127.0.0.1:{free_ports(1)[0]}",
    }
    return await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "services.auth"],
        env=environment(**{**settings, **variables}),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


async def test_processes_that_start_at_once_set_up_one_database_and_share_it(postgres: TestPostgres, home: Path) -> None:
    url = await postgres.new_database()

    def start(stack: ExitStack, number: int) -> str:
        return stack.enter_context(running_service("auth", home / f"auth-{number}.log", KILN_DATABASE_URL=url, KILN_SEALING_KEY=KEY))

    with ExitStack() as stack:
        addresses = await asyncio.gather(*(asyncio.to_thread(start, stack, number) for number in range(2)))
        (first,), (second,) = [await key_set(address) for address in addresses]
        async with open_database(url, name="test") as database:
            world = AuthWorld(database)
            await world.set_up()
            await world.user("ada", password=None)
            await database.execute("UPDATE auth.users SET password_hash = $1", await world.passwords.hash(GOOD))
            answers = []
            for address in addresses:
                async with open_channel(address, None) as channel:
                    stub = auth_pb2_grpc.AuthStub(channel)
                    answers.append(await stub.Login(pb.LoginRequest(name="ada", password=GOOD)))
            names = [(await world.token(answer.session_token))["name"] for answer in answers]
            again = await world.sessions.login("ada", GOOD, HOME)
            world.passwords.close()

    assert first == second
    assert names == ["ada", "ada"]
    assert again.caller.name == "ada"


async def test_it_starts_again_with_the_key_it_had_and_with_no_other(postgres: TestPostgres, home: Path) -> None:
    url = await postgres.new_database()
    with running_service("auth", home / "auth-again.log", KILN_DATABASE_URL=url, KILN_SEALING_KEY=KEY) as address:
        before = await key_set(address)
    other = base64.b64encode(os.urandom(32)).decode()

    refused = await starting(url, KILN_SEALING_KEY=other)
    with running_service("auth", home / "auth-again.log", KILN_DATABASE_URL=url, KILN_SEALING_KEY=f"{other},{KEY}") as address:
        turning = await key_set(address)
    with running_service("auth", home / "auth-again.log", KILN_DATABASE_URL=url, KILN_SEALING_KEY=other) as address:
        after = await key_set(address)

    assert refused.returncode == 78
    assert "kiln: KILN_SEALING_KEY: the signing key" in refused.stderr
    assert other not in refused.stderr + refused.stdout
    assert before == turning == after


@pytest.mark.parametrize("key", ["", "short", base64.b64encode(bytes(31)).decode(), f"{KEY},x"])
async def test_a_sealing_key_that_is_none_stops_the_start_and_is_not_repeated(key: str) -> None:
    ended = await starting("postgresql://nobody@127.0.0.1:1/none", KILN_SEALING_KEY=key)

    assert ended.returncode == 78
    assert ended.stderr.startswith("kiln: KILN_SEALING_KEY: ")
    assert len(key) < 6 or key not in ended.stderr
