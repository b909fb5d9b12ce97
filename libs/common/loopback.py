"""Addresses of this machine alone."""

from ipaddress import ip_address


def is_loopback(address: str) -> bool:
    """Whether what listens at `host:port` is reached from this machine alone."""
    return is_loopback_host(address.rpartition(":")[0])


def is_loopback_host(host: str) -> bool:
    """Whether a name or an IP address, in brackets or without, is this machine's own to itself and nobody else's."""
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"
