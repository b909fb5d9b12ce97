"""Addresses of this machine alone."""

import re
from ipaddress import ip_address
from typing import Final

_AUTHORITY: Final = re.compile(r"(\[[^\[\]]*\]|[^:\[\]]*)(?::[0-9]*)?")


def is_loopback(address: str) -> bool:
    """Whether what listens at `host:port` is reached from this machine alone."""
    return is_loopback_host(address.rpartition(":")[0])


def is_loopback_host(host: str) -> bool:
    """Whether a name or an IP address, in brackets or without, is this machine's own to itself and nobody else's."""
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def is_loopback_authority(authority: str) -> bool:
    """The same of a host with or without a port, as it stands in URLs and in HTTP's `Host`."""
    parts = _AUTHORITY.fullmatch(authority)
    return parts is not None and is_loopback_host(parts[1])
