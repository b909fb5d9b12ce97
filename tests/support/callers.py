"""Who calls, for tests that say it themselves."""

from typing import Any, Final
from uuid import uuid4

from libs.common.access.principal import Principal, Role

ADMIN: Final = Principal(id=str(uuid4()), name="root", role=Role.ADMIN)


def dev(**facts: Any) -> Principal:
    """A user of the role DEV, another each time."""
    return Principal(**{"id": str(uuid4()), "name": "dev", "role": Role.DEV, **facts})
