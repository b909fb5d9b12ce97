"""`make admin-key`: a new key of the administrator for a home, whether it is running or not."""

import asyncio
import sys
from contextlib import suppress
from pathlib import Path

from libs.common.settings import InvalidSettings, load
from libs.local.__main__ import environment_of, make_admin_key, say, start_postgres
from libs.local.home import Home, HomeInUse, open_home
from libs.local.ports import NoPorts, free_ports
from libs.local.postgres import EmbeddedPostgres, PostgresFailed
from libs.local.settings import Settings
from libs.local.supervisor import StartFailed, Supervisor


async def _in_resting_home(home: Home) -> None:
    """Starts the home's PostgreSQL for the moment."""
    supervisor = Supervisor(home, say)
    try:
        url = await start_postgres(home, free_ports(1)[0], supervisor)
        await asyncio.to_thread(make_admin_key, home, environment_of(home, url))
    finally:
        await supervisor.stop()


def _make(settings: Settings) -> Path:
    if settings.database_url:
        home = Home(settings.home)
        home.path.mkdir(parents=True, exist_ok=True)
        make_admin_key(home, environment_of(home, settings.database_url.get_secret_value()))
        return home.admin_key
    with suppress(HomeInUse), open_home(settings.home) as home:
        asyncio.run(_in_resting_home(home))
        return home.admin_key
    home = Home(settings.home)
    make_admin_key(home, environment_of(home, EmbeddedPostgres(home, home.postgres_port()).url))
    return home.admin_key


def main() -> int:
    """Makes it; returns the exit code."""
    try:
        say(f"the key is in {_make(load(Settings))}")
    except (InvalidSettings, NoPorts, PostgresFailed, StartFailed, OSError) as error:
        say(str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
