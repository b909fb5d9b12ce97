"""Languages as the compilers announce them: what is not installed is refused when it is asked for, not when it is built."""

from dataclasses import dataclass

from libs.common.errors import FailedPrecondition


@dataclass(frozen=True, slots=True)
class Language:
    """What the newest announcement says of a language.

    Attributes:
        id: As in `libs.common.languages`.
        name: For people.
        available: Whether its toolchain is installed.
        install_hint: How to add it when it is not.
    """

    id: str
    name: str
    available: bool
    install_hint: str


def check_available(language: Language | None) -> None:
    """Refuses a build that no compiler could begin. One in a language that was never announced waits for its compiler.

    Raises:
        FailedPrecondition: the toolchain is not installed.
    """
    if language and not language.available:
        raise FailedPrecondition(
            f"{language.name} is not installed here: {language.install_hint}",
            reason="LANGUAGE_UNAVAILABLE",
            metadata={"language": language.id},
        )
