"""Which passwords are taken."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.errors import InvalidArgument
from services.auth.guessable import check_password, unguessed

GUESSABLE = [
    *("a" * 15, "abababababababab", "abcabcabcabcabcabc", "correctcorrectcorrect"),
    *("abcdefghijklmnop", "zyxwvutsrqponmlkj", "123456789012345", "987654321987654321"),
    *("qwertyuiopasdfghjkl", "QWERTYUIOP123456", "1q2w3e4r5t6y7u8i9o", "1qaz2wsx3edc4rfv", "zaq12wsxcde34rfv", "qazwsxedcrfvtgb"),
    *("passwordpassword", "Password12345678", "P4ssw0rd12345678", "p@$$w0rd-p@$$w0rd", "password!!!!!!!!!"),
    *("kiln-admin-2026-kiln", "Welcome to kiln 1", "kilnkilnkilnkiln", "adminadmin2026!", "letmeinletmein99"),
    *("ada.lovelaceada.lovelace", "lovelace-lovelace", "Lovelace1234567", "AdaLovelace2026!", "l0v3l4c3-l0v3l4c3"),
    *("thequickbrownfox", "iloveyou iloveyou", "correcthorsebatterystaple", "               ", "0000000000000001"),
]
GOOD = [
    *("correct horse battery staple", "seven grey cats on a tin roof", "kiln burns the clay at noon", "Tr0ub4dor&3 is not the one"),
    *(
        "0314159265358979",
        "mQ7vXc2LpZr9TbN",
        "пароль на каждый день",
        "四つの猫が屋根の上で寝ている日曜日",
        "x9 3k 2f 8z 7q 4w",
        "👩‍🚀🌍🪐🌙☄️✨🔭🛰️🚀🌌🌠👽🛸🌞⭐",
    ),
]


@pytest.mark.parametrize("password", GUESSABLE)
def test_what_is_easily_guessed_is_refused_and_not_repeated(password: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        check_password("password", password, "ada.lovelace")

    assert "easily guessed" in refused.value.message
    assert [one.field for one in refused.value.violations] == ["password"]
    assert password not in refused.value.message


@pytest.mark.parametrize("password", GOOD)
def test_what_is_not_is_taken(password: str) -> None:
    check_password("password", password, "ada")


@pytest.mark.parametrize("password", ["", "x", GOOD[0][:14], "é" * 14, (GOOD[0] * 40)[:1025]])
def test_a_password_has_15_to_1024_characters(password: str) -> None:
    with pytest.raises(InvalidArgument, match="15 to 1024"):
        check_password("new_password", password, "ada")


def test_the_bounds_themselves_are_taken() -> None:
    check_password("password", GOOD[0][:15], "ada")
    check_password("password", "".join(chr(0x4E00 + number * 7) for number in range(1024)), "ada")


def test_the_name_of_a_user_counts_in_its_password_and_in_no_other() -> None:
    password = "ophelia's meadow"

    with pytest.raises(InvalidArgument):
        check_password("password", password, "ophelia.meadow")
    check_password("password", password, "ada")


@given(st.text(max_size=1024), st.from_regex(r"[a-z][a-z0-9._-]{0,62}", fullmatch=True))
def test_what_is_left_is_never_more_than_there_was(password: str, name: str) -> None:
    assert len(unguessed(password, name)) <= len(password.casefold())
