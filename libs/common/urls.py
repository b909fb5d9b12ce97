"""What URLs may be that Kiln is told of."""

from urllib.parse import urlsplit

from libs.common.loopback import is_loopback_host


def is_safe_url(text: str) -> bool:
    """Whether a URL leads where nobody listens on the way: by https, or by http on this machine."""
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        return False
    if not host or parts.username is not None or not text.isascii() or not text.isprintable() or " " in text:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and is_loopback_host(host))
