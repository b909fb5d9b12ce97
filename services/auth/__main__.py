"""The auth service: what it reads, opens and serves."""

from contextlib import closing
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Final

from kiln.auth.v1 import auth_pb2_grpc as grpc

from libs.common.audit_queue import QueuedAuditLog
from libs.common.migrate import install_queues, migrate
from libs.common.postgres import Listener, open_database
from libs.common.queue import AUDIT_EVENTS, Queue, wakeups
from libs.common.sealing import Sealer, Unopenable, read_keys
from libs.common.server import Service, forever, run
from libs.common.settings import InvalidSettings, load
from services.auth.api_keys import ApiKeys
from services.auth.audit_events import AuditEvents
from services.auth.changes import utc_now
from services.auth.exchange import Exchange
from services.auth.groups import Groups
from services.auth.identities import Identities
from services.auth.oidc_logins import OidcLogins
from services.auth.passwords import Passwords
from services.auth.provider_client import ProviderClient
from services.auth.repository import CHANGES_CHANNEL, AuditRepository, AuthRepository, TryRepository
from services.auth.servicer import AuditServicer, AuthInternalServicer, AuthServicer
from services.auth.sessions import Lifetime, Sessions
from services.auth.settings import Settings
from services.auth.signing_keys import SigningKeys
from services.auth.sweeper import Sweeper
from services.auth.throttle import Throttle
from services.auth.trusted_issuers import TrustedIssuers
from services.auth.users import Users
from services.auth.watch import Watch

# How often audit events are looked for where no notification comes.
AUDIT_POLL_SECONDS: Final = 1


async def main() -> None:
    settings = load(Settings)
    lifetime = Lifetime(timedelta(hours=settings.auth_session_idle_hours), timedelta(hours=settings.auth_session_max_hours))
    async with Service("auth", settings) as service:
        url = settings.database_url.get_secret_value()
        database = await service.open(open_database(url, name="auth"))
        await migrate(database, "auth", Path(__file__).with_name("migrations"))
        await install_queues(database, AUDIT_EVENTS)

        repository = AuthRepository(database)
        sealer = Sealer(read_keys(settings.sealing_key.get_secret_value()))
        signing_keys = SigningKeys(repository, sealer, utc_now, timedelta(days=settings.auth_signing_key_days))
        await first_look(signing_keys)
        with closing(Passwords()) as passwords:
            users = Users(repository, passwords, utc_now)
            groups = Groups(repository, utc_now)
            sessions = Sessions(repository, passwords, Throttle(TryRepository(database), utc_now), lifetime, utc_now)
            api_keys = ApiKeys(repository, utc_now)
            clients = [await service.open(ProviderClient(one)) for one in settings.providers]
            identities = Identities(repository)
            exchange = Exchange(repository, signing_keys, TrustedIssuers(clients, identities), utc_now, lifetime.idle)
            logins = OidcLogins(clients, settings.auth_public_url, repository, identities, sessions, sealer, utc_now)
            watch = Watch(repository, Listener(url, CHANGES_CHANNEL))
            audit_events = AuditEvents(AuditRepository(database))
            sweeper = Sweeper(repository, signing_keys, audit_events, timedelta(days=settings.auth_audit_days), utc_now)
            wakeup = await service.open(wakeups(url, Queue(AUDIT_EVENTS), poll_seconds=AUDIT_POLL_SECONDS))

            service.background(forever("listen", watch.listen, pause_seconds=0.1))
            service.background(forever("watch", watch.tell, pause_seconds=0))
            service.background(forever("audit", partial(audit_events.run, wakeup), pause_seconds=0))
            service.background(forever("sweep", sweeper.sweep, pause_seconds=settings.auth_sweep_seconds))
            await service.serve(
                partial(grpc.add_AuthServicer_to_server, AuthServicer(users, groups, sessions, logins, api_keys, repository)),
                partial(grpc.add_AuditServicer_to_server, AuditServicer(audit_events)),
                partial(grpc.add_AuthInternalServicer_to_server, AuthInternalServicer(exchange, watch)),
                services=["kiln.auth.v1.Auth", "kiln.auth.v1.Audit", "kiln.auth.v1.AuthInternal"],
                audit_log=QueuedAuditLog(database),
            )


async def first_look(signing_keys: SigningKeys) -> None:
    """Sees to it that there is a key to sign with before anyone is served.

    Raises:
        InvalidSettings: it cannot be opened.
    """
    try:
        await signing_keys.look_after()
    except Unopenable as error:
        raise InvalidSettings(
            f"KILN_SEALING_KEY: {error}; set the key that it was sealed with, or, if that is lost, delete all rows of auth.signing_keys"
        ) from None


if __name__ == "__main__":
    run(main)
