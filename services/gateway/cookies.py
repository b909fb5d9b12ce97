"""The cookies that a browser has its session in, and what it must bring back for a moment."""

from dataclasses import dataclass

from kiln.options.v1 import options_pb2


@dataclass(frozen=True, slots=True)
class SessionCookie:
    """How the cookie is set and found. Use `of`.

    Attributes:
        name: Its name; a cookie of another is nobody's.
        attributes: What browsers are told of it.
    """

    name: str
    attributes: str

    @classmethod
    def of(cls, *, tls: bool) -> "SessionCookie":
        """The cookie of an installation that browsers find by TLS, or by plain HTTP.

        Browsers take `__Host-` by TLS alone and of no other host, not even one whose name ends alike. That of plain HTTP has another name:
        whoever can change what travels in the clear could set it, and must not so sign somebody in where TLS is spoken.
        """
        everywhere = "Path=/; HttpOnly; SameSite=Lax"
        return cls("__Host-kiln", f"{everywhere}; Secure") if tls else cls("kiln_session", everywhere)

    def given(self, token: str) -> str:
        """The header that gives a browser its session."""
        return f"{self.name}={token}; {self.attributes}"

    def taken_back(self) -> str:
        """The header that takes it back."""
        return f"{self.name}=; {self.attributes}; Max-Age=0"

    def found_in(self, header: str) -> str:
        """The token in what a browser sends; empty for none."""
        return _found(header, self.name)


@dataclass(frozen=True, slots=True)
class OtherCookies:
    """Cookies that the protos declare.

    Attributes:
        tls: Whether they travel by TLS, where they have other names, as a session's has, and are sent to every path for that.
    """

    tls: bool

    def given(self, cookie: options_pb2.Cookie, value: str) -> str:
        """The header that gives a browser one, or takes it back where there is no value."""
        where = "Path=/; Secure" if self.tls else f"Path={cookie.path}"
        return f"{self._name(cookie)}={value}; {where}; HttpOnly; SameSite=Lax; Max-Age={cookie.seconds if value else 0}"

    def found_in(self, header: str, cookie: options_pb2.Cookie) -> str:
        """Its value in what a browser sends; empty for none."""
        return _found(header, self._name(cookie))

    def _name(self, cookie: options_pb2.Cookie) -> str:
        return f"__Host-{cookie.name}" if self.tls else cookie.name


def _found(header: str, wanted: str) -> str:
    """A cookie's value, whatever others there are: programs at other ports of a machine set theirs for all."""
    pairs = (pair.strip().partition("=") for pair in header.split(";"))
    return next((value for name, _, value in pairs if name == wanted), "")
