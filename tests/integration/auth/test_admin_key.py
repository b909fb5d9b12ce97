"""The first way in: a key of the user `admin` in a file."""

import asyncio
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from libs.common.access.credentials import Kind, new_credential, parse_credential
from libs.common.access.principal import Role
from libs.common.errors import Unauthenticated
from libs.common.pages import page_of
from libs.common.postgres import Database, open_database
from services.auth.admin_key import write_admin_key
from services.auth.records import AuditFilter
from services.auth.users import UserPatch
from tests.integration.auth.refusals import reason
from tests.support.auth import AuthWorld, caller_of
from tests.support.postgres import TestPostgres
from tests.support.processes import ROOT, environment


async def written(world: AuthWorld, path: Path, *, if_missing: bool = False) -> str:
    """What is said."""
    return await write_admin_key(world.database, path, world.clock, if_missing=if_missing)


async def test_the_command_makes_all_that_is_missing_and_says_where_the_key_is(postgres: TestPostgres, tmp_path: Path) -> None:
    url, path = await postgres.new_database(), tmp_path / "admin-key"
    command = [sys.executable, "-m", "services.auth.admin_key", str(path)]

    async def run(*more: str) -> "subprocess.CompletedProcess[str]":
        variables = environment(KILN_AUTH="off", KILN_DATABASE_URL=url)
        return await asyncio.to_thread(
            subprocess.run, [*command, *more], env=variables, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
        )

    first = await run()
    text = path.read_text()
    again = await run("--if-missing")

    assert (first.returncode, again.returncode) == (0, 0), first.stderr + again.stderr
    assert text.strip() not in first.stdout + first.stderr + again.stdout + again.stderr
    assert str(path) in first.stdout
    assert "made the user admin" in first.stdout
    assert path.read_text() == text
    assert path.stat().st_mode & 0o777 == 0o600
    assert text.endswith("\n")
    async with open_database(url, name="test") as database:
        world = AuthWorld(database)
        await world.signing_keys.look_after()
        token = await world.token(text.strip())
        audited = await world.audit_events.list(page_of(0, ""), AuditFilter())
        world.passwords.close()
    assert (token["name"], token["role"]) == ("admin", "ADMIN")
    assert "verbs" not in token
    assert [(one.action, one.actor_name, one.entity_id, one.user, one.outcome) for one in audited.items] == [
        ("admin_key", "admin_key", token["sub"], "", "OK"),
        ("admin_key", "admin_key", token["api_key"], token["sub"], "OK"),
    ]


async def test_a_command_that_cannot_do_it_says_why(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "services.auth.admin_key", str(tmp_path / "key")]

    ended = await asyncio.to_thread(
        subprocess.run, command, env=environment(), cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )

    assert ended.returncode == 1
    assert ended.stderr.startswith("kiln: KILN_DATABASE_URL")


async def test_an_older_file_is_replaced_with_the_rights_of_a_new_one(world: AuthWorld, tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("old")
    path.chmod(0o644)

    await written(world, path)

    assert path.stat().st_mode & 0o777 == 0o600
    assert (await world.token(path.read_text().strip()))["name"] == "admin"
    assert os.listdir(tmp_path) == ["key"]


async def test_the_key_that_is_replaced_ends(world: AuthWorld, tmp_path: Path) -> None:
    path = tmp_path / "key"
    await written(world, path)
    first = path.read_text().strip()
    before = (await world.token(first))["name"]

    said = await written(world, path)

    key = parse_credential(first)
    audited = await world.audit_events.list(page_of(0, ""), AuditFilter())
    assert key
    assert [one.entity_id for one in audited.items].count(str(key.id)) == 2
    assert before == "admin"
    assert "revoked the key that was there" in said
    assert await reason(Unauthenticated, world.token(first)) == "BAD_CREDENTIALS"
    key = parse_credential(first)
    assert key
    assert await world.revision_of(key.id) > 0
    assert (await world.token(path.read_text().strip()))["name"] == "admin"
    assert "revoked" not in await written(world, tmp_path / "another")


async def test_no_key_but_one_of_the_administrators_is_ended(world: AuthWorld, tmp_path: Path) -> None:
    path = tmp_path / "key"
    await written(world, tmp_path / "admins")
    admins, another = (tmp_path / "admins").read_text().strip(), (await world.key(caller_of(await world.user("ada")))).text
    known = parse_credential(admins)
    assert known
    guessed = replace(known, secret=new_credential(Kind.API_KEY).secret).text

    for text in (another, guessed, new_credential(Kind.API_KEY).text):
        path.write_text(text)
        assert "revoked" not in await written(world, path)

    assert [(await world.token(text))["name"] for text in (admins, another)] == ["admin", "ada"]


async def test_a_key_that_is_soon_to_expire_is_left_to_do_so_when_a_start_renews_it(world: AuthWorld, tmp_path: Path) -> None:
    path = tmp_path / "key"
    await written(world, path)
    first = path.read_text().strip()
    world.clock.move(days=84)

    said = await written(world, path, if_missing=True)

    assert "revoked" not in said
    assert path.read_text().strip() != first
    assert (await world.token(first))["name"] == "admin"


async def test_while_the_new_key_cannot_be_written_the_old_one_is_good(
    world: AuthWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(path: Path, text: str) -> None:
        raise OSError("the disk is full")

    path = tmp_path / "key"
    await written(world, path)
    first = path.read_text().strip()

    monkeypatch.setattr("services.auth.admin_key.write_secret", full_disk)
    with pytest.raises(OSError, match="full"):
        await written(world, path)

    assert (await world.token(first))["name"] == "admin"


async def test_a_folder_that_is_not_there_is_an_error_and_no_key_is_made(world: AuthWorld, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="nothing"):
        await written(world, tmp_path / "nothing" / "key")

    assert await world.find("admin") is None


async def test_a_good_key_is_kept_and_every_other_replaced(world: AuthWorld, tmp_path: Path, database: Database) -> None:
    path = tmp_path / "key"
    await written(world, path)
    first = path.read_text()

    assert "is good" in await written(world, path, if_missing=True)
    assert path.read_text() == first
    world.clock.move(days=83, seconds=1)
    assert "the key is in" in await written(world, path, if_missing=True)
    second = path.read_text()
    await database.execute("UPDATE auth.api_keys SET revoked_at = now()")
    await written(world, path, if_missing=True)
    third = path.read_text()
    for text in ("", "nonsense", "é", third[:-2], (await world.login(await world.user("ada"))).token):
        path.write_text(text)
        await written(world, path, if_missing=True)
        assert (await world.token(path.read_text().strip()))["name"] == "admin"
    path.unlink()
    await written(world, path, if_missing=True)

    assert len({first, second, third, path.read_text()}) == 4


async def test_an_admin_who_was_disabled_or_demoted_administers_again(world: AuthWorld, tmp_path: Path) -> None:
    await written(world, tmp_path / "key")
    await world.users.update(world.root, "admin", UserPatch(None, True, None))
    assert await reason(Unauthenticated, world.token((tmp_path / "key").read_text().strip())) == "BAD_CREDENTIALS"

    said = await written(world, tmp_path / "key", if_missing=True)
    await world.users.update(world.root, "admin", UserPatch(Role.DEV, None, None))
    revision = await world.revision_of((await world.users.get("admin")).id)
    said_again = await written(world, tmp_path / "key")

    assert "was disabled" in said
    assert "was DEV" in said_again
    admin = await world.users.get("admin")
    assert admin.administers
    assert not admin.has_password
    assert await world.revision_of(admin.id) > revision
