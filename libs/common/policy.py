"""The one policy table: what each RPC declares beside itself in the protos with `kiln.options.v1.policy`."""

from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import Any

from google.protobuf import descriptor_pool
from kiln.options.v1 import options_pb2


class Access(StrEnum):
    """Who may call an RPC."""

    PUBLIC = "PUBLIC"
    SIGNED_IN = "SIGNED_IN"
    ADMIN = "ADMIN"
    SERVICE = "SERVICE"


@dataclass(frozen=True, slots=True)
class Audited:
    """What the audit log tells of calls of one RPC.

    Attributes:
        entity: The kind of entity that it is about.
        id: Paths to that entity's id, as `kiln.options.v1.Audit` has them.
        user: Paths to the user whom it is about besides.
    """

    entity: str
    id: tuple[str, ...]
    user: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Policy:
    """How calls of one RPC are treated.

    Attributes:
        deadline_seconds: The longest a call may take; None for streams that stay open.
        idempotent: Whether the same request may be sent again after a lost answer.
        access: Who may call it.
        verb: What a key that is narrowed to kinds of calls must be narrowed to; empty when any key may.
        within_functions: Whether a key that is narrowed to functions may call it.
        audited: How calls are written down in the audit log; None where they are not.
    """

    deadline_seconds: float | None
    idempotent: bool
    access: Access
    verb: str = ""
    within_functions: bool = False
    audited: Audited | None = None


# Standard services of gRPC itself (health, reflection) declare nothing of ours.
_STANDARD = Policy(deadline_seconds=10, idempotent=True, access=Access.PUBLIC)
_STREAMS_OF_STANDARD = Policy(deadline_seconds=None, idempotent=True, access=Access.PUBLIC)


@cache
def policy_of(method: str) -> Policy:
    """The policy of an RPC by its wire name `/package.Service/Method`.

    Raises:
        KeyError: no such RPC is loaded in this process.
        ValueError: it does not say who may call it.
    """
    service_name, _, method_name = method.removeprefix("/").partition("/")
    if service_name.startswith("grpc."):
        return _STREAMS_OF_STANDARD if method_name in ("Watch", "ServerReflectionInfo") else _STANDARD
    service = descriptor_pool.Default().FindServiceByName(service_name)
    options: Any = service.methods_by_name[method_name].GetOptions()
    declared = options.Extensions[options_pb2.policy]
    if not declared.access:
        raise ValueError(f"{method} does not declare who may call it: its `kiln.options.v1.policy` has no `access`")
    return Policy(
        declared.deadline_seconds or None,
        declared.idempotent,
        Access(options_pb2.Access.Name(declared.access)),
        options_pb2.Verb.Name(declared.verb) if declared.verb else "",
        declared.within_functions,
        Audited(declared.audit.entity, tuple(declared.audit.id), tuple(declared.audit.user)) if declared.HasField("audit") else None,
    )
