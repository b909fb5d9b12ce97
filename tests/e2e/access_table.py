"""Who gets what from each call, written by hand and made from nothing: what the code declares is held to this, never the other way round.

A row says what every caller gets from a call about one target, in the order of `CALLERS`:

    +   The call is done.
    B   It is let in, and refused for what it asks (400): nothing that it says is secret.
    U   It is not known who calls (401).
    D   Who calls may not (403).
    N   There is no such thing, as far as the caller may know (404).

Targets: `own` is what the caller `allowed` owns or is named on, and on what has lists the group of the caller `group` is named too;
`others` is the same of a user who makes no call; `absent` was never there; `malformed` can be nothing. A call about no one thing has the
target `-`.
"""

from collections.abc import Mapping
from typing import Final

# nobody      Without a credential.
# expired     A key of an administrator that has expired.
# revoked     A key of an administrator that was revoked.
# disabled    A key of an administrator who is disabled.
# allowed     A DEV who is named on what is its own.
# group       A DEV in a group that is named there.
# other       A DEV who is not named.
# admin       An administrator.
# narrowed    A key of an administrator that is narrowed to READ and EXECUTE of the function that is `own`.
# service     One of Kiln's own services by its token.
CALLERS: Final = ("nobody", "expired", "revoked", "disabled", "allowed", "group", "other", "admin", "narrowed", "service")

TABLE: Final[Mapping[str, Mapping[str, str]]] = {
    # Functions
    "kiln.registry.v1.Registry/CreateFunction": {"-": "UUUU DDD +D D"},
    "kiln.registry.v1.Registry/ListFunctions": {"-": "UUUU +++ ++ D"},
    "kiln.registry.v1.Registry/GetFunction": {
        "own": "UUUU ++N ++ D",
        "others": "UUUU NNN +N D",
        "absent": "UUUU NNN NN D",
        "malformed": "UUUU NNN NN D",
    },
    "kiln.registry.v1.Registry/UpdateFunction": {
        "own": "UUUU DDD +D D",
        "others": "UUUU DDD +D D",
        "absent": "UUUU DDD ND D",
        "malformed": "UUUU DDD ND D",
    },
    "kiln.registry.v1.Registry/DeleteFunction": {
        "own": "UUUU DDD +D D",
        "others": "UUUU DDD +D D",
        "absent": "UUUU DDD ND D",
        "malformed": "UUUU DDD ND D",
    },
    "kiln.registry.v1.Registry/ListVersions": {
        "own": "UUUU ++N ++ D",
        "others": "UUUU NNN +N D",
        "absent": "UUUU NNN NN D",
        "malformed": "UUUU NNN NN D",
    },
    "kiln.registry.v1.Registry/GetVersion": {
        "own": "UUUU ++N ++ D",
        "others": "UUUU NNN +N D",
        "absent": "UUUU NNN NN D",
        "malformed": "UUUU NNN NN D",
    },
    # The version is READY, and only FAILED ones are built again.
    "kiln.registry.v1.Registry/BuildVersion": {
        "own": "UUUU DDD BD D",
        "others": "UUUU DDD BD D",
        "absent": "UUUU DDD ND D",
        "malformed": "UUUU DDD ND D",
    },
    "kiln.registry.v1.Registry/RollbackFunction": {
        "own": "UUUU DDD +D D",
        "others": "UUUU DDD +D D",
        "absent": "UUUU DDD ND D",
        "malformed": "UUUU DDD ND D",
    },
    # Environments
    "kiln.registry.v1.Environments/CreateEnvironment": {"-": "UUUU DDD +D D"},
    "kiln.registry.v1.Environments/ListEnvironments": {"-": "UUUU +++ +D D"},
    "kiln.registry.v1.Environments/GetEnvironment": {
        "own": "UUUU ++N +D D",
        "others": "UUUU NNN +D D",
        "absent": "UUUU NNN ND D",
        "malformed": "UUUU NNN ND D",
    },
    "kiln.registry.v1.Environments/UpdateEnvironment": {
        "own": "UUUU DDD +D D",
        "others": "UUUU DDD +D D",
        "absent": "UUUU DDD ND D",
        "malformed": "UUUU DDD ND D",
    },
    "kiln.registry.v1.Environments/DeleteEnvironment": {
        "own": "UUUU DDD +D D",
        "others": "UUUU DDD +D D",
        "absent": "UUUU DDD ND D",
        "malformed": "UUUU DDD ND D",
    },
    # Runs
    "kiln.executor.v1.Executor/ExecuteFunction": {
        "own": "UUUU ++N ++ D",
        "others": "UUUU NNN +N D",
        "absent": "UUUU NNN NN D",
        "malformed": "UUUU NNN NN D",
    },
    "kiln.executor.v1.Executor/ExecuteBatch": {
        "own": "UUUU ++N ++ D",
        "others": "UUUU NNN +N D",
        "absent": "UUUU NNN NN D",
        "malformed": "UUUU NNN NN D",
    },
    # Each of its answers is of one input: the refusal is the answer's, and the stream itself is let in.
    "kiln.executor.v1.Executor/ExecuteStream": {
        "own": "UUUU ++N ++ D",
        "others": "UUUU NNN +N D",
        "absent": "UUUU NNN NN D",
        "malformed": "UUUU NNN NN D",
    },
    "kiln.executor.v1.Executor/ListExecutions": {
        "own": "UUUU ++N ++ D",
        "others": "UUUU NNN +N D",
        "absent": "UUUU NNN NN D",
        "malformed": "UUUU NNN NN D",
    },
    "kiln.executor.v1.Executor/GetExecution": {
        "own": "UUUU ++N ++ D",
        "others": "UUUU NNN +N D",
        "absent": "UUUU NNN NN D",
        "malformed": "UUUU NNN NN D",
    },
    "kiln.compiler.v1.Compiler/ListLanguages": {"-": "UUUU +++ +D D"},
    # The caller itself
    "kiln.auth.v1.Auth/Login": {"-": "++++ +++ ++ +"},
    "kiln.auth.v1.Auth/ListIdentityProviders": {"-": "++++ +++ ++ +"},
    # There is no provider.
    "kiln.auth.v1.Auth/BeginOidcLogin": {"-": "NNNN NNN NN N"},
    "kiln.auth.v1.Auth/CompleteOidcLogin": {"-": "NNNN NNN NN N"},
    "kiln.auth.v1.Auth/GetKeySet": {"-": "++++ +++ ++ +"},
    "kiln.auth.v1.Auth/GetCaller": {"-": "UUUU +++ ++ D"},
    # Who has a key and no session is signed out already.
    "kiln.auth.v1.Auth/Logout": {"-": "UUUU +++ ++ D"},
    # Nobody changes a password by a key.
    "kiln.auth.v1.Auth/ChangePassword": {"-": "UUUU DDD DD D"},
    # Users
    "kiln.auth.v1.Auth/CreateUser": {"-": "UUUU DDD +D D"},
    "kiln.auth.v1.Auth/ListUsers": {"-": "UUUU DDD +D D"},
    "kiln.auth.v1.Auth/GetUser": {
        "own": "UUUU DDD +D D",
        "others": "UUUU DDD +D D",
        "absent": "UUUU DDD ND D",
        "malformed": "UUUU DDD ND D",
    },
    "kiln.auth.v1.Auth/UpdateUser": {
        "own": "UUUU DDD +D D",
        "others": "UUUU DDD +D D",
        "absent": "UUUU DDD ND D",
        "malformed": "UUUU DDD ND D",
    },
    "kiln.auth.v1.Auth/DeleteUser": {
        "others": "UUUU DDD +D D",
        "absent": "UUUU DDD ND D",
        "malformed": "UUUU DDD ND D",
    },
    # Groups
    "kiln.auth.v1.Auth/CreateGroup": {"-": "UUUU DDD +D D"},
    "kiln.auth.v1.Auth/ListGroups": {"-": "UUUU DDD +D D"},
    "kiln.auth.v1.Auth/GetGroup": {
        "own": "UUUU DDD +D D",
        "others": "UUUU DDD +D D",
        "absent": "UUUU DDD ND D",
        "malformed": "UUUU DDD ND D",
    },
    "kiln.auth.v1.Auth/UpdateGroup": {
        "own": "UUUU DDD +D D",
        "others": "UUUU DDD +D D",
        "absent": "UUUU DDD ND D",
        "malformed": "UUUU DDD ND D",
    },
    "kiln.auth.v1.Auth/DeleteGroup": {
        "others": "UUUU DDD +D D",
        "absent": "UUUU DDD ND D",
        "malformed": "UUUU DDD ND D",
    },
    "kiln.auth.v1.Auth/ListMembers": {
        "own": "UUUU DDD +D D",
        "others": "UUUU DDD +D D",
        "absent": "UUUU DDD ND D",
        "malformed": "UUUU DDD ND D",
    },
    "kiln.auth.v1.Auth/AddMember": {
        "others": "UUUU DDD +D D",
        "absent": "UUUU DDD ND D",
        "malformed": "UUUU DDD ND D",
    },
    "kiln.auth.v1.Auth/RemoveMember": {
        "others": "UUUU DDD +D D",
        "absent": "UUUU DDD ND D",
        "malformed": "UUUU DDD ND D",
    },
    # Sessions and keys: everyone's own, and all of them an administrator's
    "kiln.auth.v1.Auth/ListSessions": {"-": "UUUU +++ +D D"},
    "kiln.auth.v1.Auth/DeleteSession": {
        "own": "UUUU +NN +D D",
        "others": "UUUU NNN +D D",
        "absent": "UUUU NNN ND D",
        "malformed": "UUUU NNN ND D",
    },
    "kiln.auth.v1.Auth/CreateApiKey": {"-": "UUUU +++ +D D"},
    "kiln.auth.v1.Auth/ListApiKeys": {"-": "UUUU +++ +D D"},
    "kiln.auth.v1.Auth/GetApiKey": {
        "own": "UUUU +NN +D D",
        "others": "UUUU NNN +D D",
        "absent": "UUUU NNN ND D",
        "malformed": "UUUU NNN ND D",
    },
    # A key that is narrowed may rotate itself, and no other.
    "kiln.auth.v1.Auth/RotateApiKey": {
        "own": "UUUU +NN +D D",
        "others": "UUUU NNN +D D",
        "absent": "UUUU NNN NN D",
        "malformed": "UUUU NNN NN D",
    },
    "kiln.auth.v1.Auth/RevokeApiKey": {
        "own": "UUUU +NN +D D",
        "others": "UUUU NNN +D D",
        "absent": "UUUU NNN ND D",
        "malformed": "UUUU NNN ND D",
    },
    "kiln.auth.v1.Audit/ListAuditEvents": {"-": "UUUU DDD +D D"},
    # What services ask each other: not to be had by REST or at the front door, and there for nobody else
    # The credential that is asked about is none.
    "kiln.auth.v1.AuthInternal/ExchangeCredential": {"-": "UUUU DDD DD U"},
    "kiln.auth.v1.AuthInternal/WatchTokens": {"-": "UUUU DDD DD +"},
    "kiln.carrier.v1.CarrierInternal/Open": {"-": "UUUU DDD DD +"},
    "kiln.compiler.v1.CompilerInternal/GetArtifact": {"-": "UUUU DDD DD N"},
    "kiln.registry.v1.RegistryInternal/Watch": {"-": "UUUU DDD DD +"},
    "kiln.registry.v1.RegistryInternal/ResolveVersion": {"own": "UUUU DDD DD +", "absent": "UUUU DDD DD N"},
}

# Where REST answers otherwise: a browser that has no session any more is rid of its cookie, and is not told that it cannot be.
BY_REST: Final[Mapping[str, Mapping[str, str]]] = {"kiln.auth.v1.Auth/Logout": {"-": "+UUU +++ ++ D"}}
