"""The cookie that a browser has its session in."""

from dataclasses import dataclass


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
        """The cookie of an installation that speaks TLS, or that does not.

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
        """The token in what a browser sends, whatever other cookies there are: programs at other ports of a machine set theirs for all.

        Empty for none.
        """
        pairs = (pair.strip().partition("=") for pair in header.split(";"))
        return next((value for name, _, value in pairs if name == self.name), "")
