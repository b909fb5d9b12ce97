"""Cookies of an installation that speaks TLS are of its host alone."""

from kiln.options.v1 import options_pb2

from services.gateway.cookies import OtherCookies

LOGIN = options_pb2.Cookie(name="kiln_login", path="/auth/oidc", seconds=600)


def test_a_cookie_in_the_clear_is_sent_beneath_its_path_alone() -> None:
    cookies = OtherCookies(tls=False)

    assert cookies.given(LOGIN, "x") == "kiln_login=x; Path=/auth/oidc; HttpOnly; SameSite=Lax; Max-Age=600"
    assert cookies.given(LOGIN, "") == "kiln_login=; Path=/auth/oidc; HttpOnly; SameSite=Lax; Max-Age=0"
    assert cookies.found_in("a=b; kiln_login=x", LOGIN) == "x"


def test_by_tls_no_other_host_can_have_set_it() -> None:
    cookies = OtherCookies(tls=True)

    assert cookies.given(LOGIN, "x") == "__Host-kiln_login=x; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=600"
    assert cookies.found_in("kiln_login=theirs; __Host-kiln_login=x", LOGIN) == "x"
    assert cookies.found_in("kiln_login=theirs; __Secure-kiln_login=theirs", LOGIN) == ""
