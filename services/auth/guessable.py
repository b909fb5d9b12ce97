"""Passwords that are easily guessed, and are not taken.

There is no list of leaked passwords: hardly any of them has 15 characters. Longer ones that are guessed first are made of names, well-known
words, years, repetitions, and walks along the alphabet or the keyboard. Each of these counts as one character here, and what is left must
still be a password.
"""

import re
from collections.abc import Iterable
from typing import Final

from libs.common.errors import InvalidArgument

MIN_CHARACTERS: Final = 15
MAX_CHARACTERS: Final = 1024
# Of what is left when all that is easily guessed counts as one character each.
_MIN_LEFT: Final = 10
_MIN_DIFFERENT: Final = 6
_MIN_RUN: Final = 3
_MARK: Final = "\ue000"

_WORDS: Final = (
    *("kiln", "password", "passwort", "passphrase", "passwd", "admin", "administrator", "root", "user", "guest", "login", "welcome"),
    *("letmein", "changeme", "secret", "default", "master", "access", "test", "trustno1", "iloveyou", "dragon", "monkey", "football"),
    *("baseball", "sunshine", "princess", "superman", "starwars", "thequickbrownfox", "loremipsum", "correcthorsebatterystaple"),
)
_YEARS: Final = r"(?:19|20)\d\d"
_WALKS: Final = (
    *("1234567890", "qwertyuiop", "qwertzuiop", "azertyuiop", "asdfghjkl", "zxcvbnm", "yxcvbnm", "!@#$%^&*()", '!"§$%&/()='),
    *("1q2w3e4r5t6y7u8i9o0p", "q1w2e3r4t5y6u7i8o9p0", "1qaz2wsx3edc4rfv5tgb6yhn7ujm8ik9ol", "zaq1xsw2cde3vfr4bgt5nhy6mju7"),
    *("qazwsxedcrfvtgbyhnujmikolp", "zaqxswcdevfrbgtnhymjukilop"),
)
_BOTH_WAYS: Final = (*_WALKS, *(walk[::-1] for walk in _WALKS))
# As people write letters by other characters.
_LETTERS: Final = str.maketrans("013457@$!|8", "oieastasiib")


def check_password(field: str, password: str, name: str) -> None:
    """Raises InvalidArgument unless the text may be a user's password.

    Args:
        field: Where it came from.
        password: Is in no error.
        name: The user's.
    """
    if not MIN_CHARACTERS <= len(password) <= MAX_CHARACTERS:
        raise InvalidArgument.of(field, f"must have {MIN_CHARACTERS} to {MAX_CHARACTERS} characters")
    left = unguessed(password, name)
    if len(left) < _MIN_LEFT or len(set(left)) < _MIN_DIFFERENT:
        raise InvalidArgument.of(
            field, "is easily guessed: it is little more than names, well-known words, years, repetitions or sequences; use some words more"
        )


def unguessed(password: str, name: str) -> str:
    """What is left of a password when each of its parts that is easily guessed counts as one character."""
    parts = [part for part in (name, *re.split(r"[._-]", name)) if len(part) >= _MIN_RUN]
    known = re.compile("|".join([*map(re.escape, sorted({*parts, *_WORDS}, key=len, reverse=True)), _YEARS]))
    left = "".join(_without_runs(known.sub(_MARK, password.casefold())))
    return _without_repetition(known.sub(_MARK, left.translate(_LETTERS)))


def _without_runs(text: str) -> Iterable[str]:
    at = 0
    while at < len(text):
        length = _run(text, at)
        yield text[at]
        at += length if length >= _MIN_RUN else 1


def _run(text: str, at: int) -> int:
    """How long the walk or sequence is that begins there."""
    longest = max(_step_run(text, at, step) for step in (-1, 0, 1))
    for walk in _BOTH_WAYS:
        length = longest + 1
        while at + length <= len(text) and text[at : at + length] in walk:
            longest, length = length, length + 1
    return longest


def _step_run(text: str, at: int, step: int) -> int:
    end = at + 1
    while end < len(text) and ord(text[end]) - ord(text[end - 1]) == step:
        end += 1
    return end - at


def _without_repetition(text: str) -> str:
    """The part that the text is made of by repeating it."""
    for period in range(1, len(text) // 2 + 1):
        if text[period:] == text[:-period]:
            return text[:period]
    return text
