"""`python -m services.auth.admin_key PATH`: a first way in. Makes an API key of the user `admin` and writes it to a file.

Whoever may write to the database may do this; nobody else needs to. The key itself is in the file alone.
"""

import argparse
import asyncio
import os
import sys
import tempfile
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final
from uuid import UUID

from pydantic import Field, SecretStr

from libs.common import logs
from libs.common.access.credentials import Credential, Kind, parse_credential
from libs.common.access.principal import Role
from libs.common.audit import Event
from libs.common.ids import uuid7
from libs.common.migrate import migrate
from libs.common.postgres import Database, open_database
from libs.common.settings import InvalidSettings, ProcessSettings, load
from services.auth.api_keys import DEFAULT_DAYS, Issued, issue
from services.auth.audit_events import write
from services.auth.changes import Clock, utc_now
from services.auth.names import Reference
from services.auth.repository import AuthRepository, Store

ADMIN: Final = "admin"
# What it is called in the audit log, as who does it and as what is done.
COMMAND: Final = "admin_key"
KEY_NAME: Final = "admin-key"
# One that expires sooner is not worth keeping.
SPARE: Final = timedelta(days=7)


class Settings(ProcessSettings):
    """What this command reads from its environment."""

    database_url: SecretStr = Field(description="`postgresql://user:password@host:port/database`.")


async def write_admin_key(database: Database, path: Path, clock: Clock, *, if_missing: bool) -> str:
    """Makes a key and writes it; what there is to say of that.

    Args:
        database: Its schema is brought up to date first.
        path: The file; one that is there is replaced.
        clock: The time.
        if_missing: Do nothing when the file holds a key that is still taken. Otherwise a key of the same user's that the file holds is
            revoked; one that is only about to expire is left to do so, wherever else it may be in use.

    Raises:
        OSError: the file cannot be written.
    """
    await migrate(database, "auth", Path(__file__).with_name("migrations"))
    repository = AuthRepository(database)
    if if_missing and await _is_taken(repository, path, clock):
        return f"{path} holds a key that is good"
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise PermissionError(f"cannot write to the folder {path.parent}")
    replaced = _held(path)
    async with repository.change() as store:
        said, issued = await _issued(store, clock)
        key = issued.api_key
        # Also of the user, who may have been made or made an ADMIN for it.
        done = [("api_key", str(key.id), str(key.user_id)), *([("user", str(key.user_id), "")] if said else [])]
        await write(store.transaction, [_event(*one) for one in done])
    write_secret(path, issued.text)
    # Once the new one is where the old one was: whatever fails before leaves a key that is good.
    if replaced and not if_missing and await _revoke(repository, replaced, issued.api_key.user_id, clock()):
        said += "revoked the key that was there; "
    return f"{said}the key is in {path}, and good until {issued.api_key.expires_at:%Y-%m-%d}"


def write_secret(path: Path, text: str) -> None:
    """Writes a line that only its owner may read, all at once: whoever reads the file sees the old one or the new one."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(f"{text}\n")
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


async def _is_taken(repository: AuthRepository, path: Path, clock: Clock) -> bool:
    credential = _held(path)
    bearer = await repository.find_bearer(credential, clock() + SPARE) if credential else None
    if credential is None or bearer is None:
        return False
    return credential.matches(bearer.secret_digest) and not bearer.ended and not bearer.user.disabled


def _held(path: Path) -> Credential | None:
    """The API key that a file holds; None for none."""
    try:
        credential = parse_credential(path.read_text(encoding="ascii").strip())
    except (OSError, UnicodeDecodeError):
        return None
    return credential if credential and credential.kind is Kind.API_KEY else None


async def _revoke(repository: AuthRepository, credential: Credential, user: UUID, now: datetime) -> bool:
    """Ends a key, if it is one of a user's and has not ended; whether it was."""
    bearer = await repository.find_bearer(credential, now)
    if bearer is None or bearer.user.id != user or not credential.matches(bearer.secret_digest):
        return False
    async with repository.change() as store:
        if not await store.revoke_api_key(credential.id, now):
            return False
        await store.announce([credential.id])
        await write(store.transaction, [_event("api_key", str(credential.id), str(user))])
    return True


def _event(kind: str, entity: str, user: str) -> Event:
    """What the audit log is told of an entity that this command makes or changes."""
    return Event(uuid7(), COMMAND, kind, entity, user, actor_name=COMMAND, outcome="OK")


async def _issued(store: Store, clock: Clock) -> tuple[str, Issued]:
    """A key of the user `admin`, who administers from now on, and what was done for that."""
    said = ""
    user = await store.find_user(Reference(None, ADMIN))
    identity = user.id if user else uuid7()
    if user is None:
        await store.insert_user(identity, ADMIN, Role.ADMIN, None)
        said = f"made the user {ADMIN}; "
    elif not user.administers:
        await store.update_user(identity, Role.ADMIN, False, None)
        await store.announce([identity])
        said = f"the user {ADMIN} was {'disabled' if user.disabled else user.role}, and is an enabled ADMIN now; "
    now = clock()
    return said, await issue(store, identity, KEY_NAME, now, now + timedelta(days=DEFAULT_DAYS))


async def main(path: Path, *, if_missing: bool) -> None:
    settings = load(Settings)
    logs.configure("auth", settings.log_level)
    async with open_database(settings.database_url.get_secret_value(), name="auth-admin-key", max_connections=1) as database:
        print(await write_admin_key(database, path, utc_now, if_missing=if_missing))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m services.auth.admin_key", description="Makes an API key of the user `admin`.")
    parser.add_argument("path", type=Path, help="the file that the key is written to")
    parser.add_argument("--if-missing", action="store_true", help="do nothing when the file holds a key that is still taken")
    arguments = parser.parse_args()
    try:
        asyncio.run(main(arguments.path, if_missing=arguments.if_missing))
    except (InvalidSettings, OSError) as error:
        print(f"kiln: {error}", file=sys.stderr)
        raise SystemExit(1) from None
