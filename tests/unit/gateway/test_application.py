"""What is around each request, whatever serves it."""

import asyncio

import pytest

from services.gateway.exchange import Answer, Endpoint, Request
from services.gateway.rest import RestApplication
from services.gateway.routes import Routes


async def echo(request: Request) -> Answer:
    return Answer(200, request.body)


@pytest.fixture
def application() -> RestApplication:
    """One that serves one call at a time."""
    routes: Routes[Endpoint] = Routes()
    routes.add("POST", "/echo", echo)
    return RestApplication(routes, max_concurrent=1, loopback_only=True)


def asked(method: str = "POST", path: str = "/echo", host: str = "localhost") -> Request:
    return Request(b"", {"host": host, "x-request-id": "mine"}, {}, b"{}", method, "127.0.0.1", path)


async def never() -> None:
    await asyncio.Event().wait()


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (asked(), 200),
        (asked("OPTIONS"), 204),
        (asked("GET"), 405),
        (asked(path="/nowhere"), 404),
        (asked(host="kiln.example"), 403),
    ],
)
async def test_every_answer_has_the_id_of_its_request(application: RestApplication, request_: Request, status: int) -> None:
    answer = await application.serve(request_)

    assert answer.status == status
    assert ("x-request-id", "mine") in answer.headers


async def test_a_call_whose_body_is_still_to_come_counts_until_its_client_goes_away(application: RestApplication) -> None:
    first, second = asked(), asked()
    first.arrival = second.arrival = never
    waiting = asyncio.create_task(application.serve(first))
    await asyncio.sleep(0)

    refused = await application.serve(second)
    waiting.cancel()
    await asyncio.wait([waiting])

    assert refused.status == 429
    assert (await application.serve(asked())).status == 200


async def test_who_asks_for_nothing_that_is_there_is_told_before_the_body_comes(application: RestApplication) -> None:
    request = asked(path="/nowhere")
    request.arrival = never

    answer = await asyncio.wait_for(application.serve(request), 30)

    assert answer.status == 404
