"""What the simulated card processor does with money, seen over real HTTP and read back from its ledger."""

import json
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.integration.card_processor import API_KEY, SLOW_SECONDS, WAIT_SECONDS, Answer, Processor

STOP_LIMIT_SECONDS = 6.0


@pytest.fixture(scope="module")
def processor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processor]:
    """A processor that the tests which leave it running share."""
    with Processor(tmp_path_factory.mktemp("processor")) as shared:
        yield shared


@pytest.fixture
def payment() -> str:
    """An id that nobody used before."""
    return str(uuid4())


def test_an_authorisation_is_captured_in_full(processor: Processor, payment: str) -> None:
    """The plain way: 201 and 200, the object as it stands each time, one entry for each effect."""
    authorized = processor.authorize(payment)
    captured = processor.capture(payment)

    create_time = authorized.body.pop("create_time")
    assert authorized == Answer(
        201,
        {
            "id": payment,
            "state": "authorized",
            "amount_minor": 1250,
            "currency": "EUR",
            "captured_minor": 0,
            "decline_code": None,
        },
    )
    assert create_time.endswith("Z")
    assert captured.status == 200
    assert (captured.body["state"], captured.body["captured_minor"]) == ("captured", 1250)
    assert processor.get(payment) == captured
    assert processor.effects(payment) == [("authorized", 1250), ("captured", 1250)]


def test_repeated_calls_are_answered_alike_and_act_once(processor: Processor, payment: str) -> None:
    """The caller's id makes authorise, capture and void idempotent."""
    assert processor.authorize(payment) == processor.authorize(payment)
    assert processor.capture(payment) == processor.capture(payment)
    assert processor.authorize(payment).body["state"] == "captured"
    assert processor.effects(payment) == [("authorized", 1250), ("captured", 1250)]

    other = f"{payment}-other"
    processor.authorize(other)
    assert processor.void(other) == processor.void(other)
    assert processor.effects(other) == [("authorized", 1250), ("voided", 1250)]


def test_an_id_with_another_body_is_refused(processor: Processor, payment: str) -> None:
    """Another amount, currency or token under a known id is a mistake of the caller, and changes nothing."""
    processor.authorize(payment)
    reused = Answer(409, {"error": {"code": "id_reused"}})

    assert processor.authorize(payment, amount_minor=1251) == reused
    assert processor.authorize(payment, card="tok_slow") == reused
    other_currency = {"amount_minor": 1250, "currency": "USD", "token": "tok_succeeds"}
    assert processor.call("PUT", f"/v1/authorizations/{payment}", other_currency) == reused
    assert processor.effects(payment) == [("authorized", 1250)]


@pytest.mark.parametrize(
    ("token", "code"),
    [
        ("tok_declined", "card_declined"),
        ("tok_insufficient_funds", "insufficient_funds"),
        ("tok_unheard_of", "invalid_token"),
        ("succeeds", "invalid_token"),
    ],
)
def test_a_decline_is_stored_and_repeated(processor: Processor, payment: str, token: str, code: str) -> None:
    """A declined authorisation stays declined: it cannot be captured, and voiding it has nothing to undo."""
    declined = processor.authorize(payment, token)

    assert declined.status == 402
    assert declined.body["error"] == {"code": code}
    assert declined.body["authorization"]["state"] == "declined"
    assert declined.body["authorization"]["decline_code"] == code
    assert processor.authorize(payment, token) == declined
    assert processor.get(payment) == Answer(200, declined.body["authorization"])
    refused = processor.capture(payment)
    assert (refused.status, refused.body["error"]["code"]) == (409, "declined")
    assert processor.void(payment) == Answer(200, declined.body["authorization"])
    assert processor.effects(payment) == [("declined", 1250)]


def test_a_slow_authorisation_takes_effect_at_its_end(processor: Processor, payment: str) -> None:
    """The slow token answers after its time, once; what is authorised is repeated at once."""
    started = time.monotonic()
    authorized = processor.authorize(payment, "tok_slow")

    assert time.monotonic() - started >= SLOW_SECONDS
    assert authorized.status == 201
    assert processor.authorize(payment, "tok_slow") == authorized
    assert processor.effects(payment) == [("authorized", 1250)]


def test_a_slow_authorisation_takes_effect_though_its_caller_left(processor: Processor, payment: str) -> None:
    """A caller that gives up has an unknown outcome: here the money is held, as asking again shows."""
    connection = processor.connect()
    body = json.dumps({"amount_minor": 1250, "currency": "EUR", "token": "tok_slow"}).encode()
    connection.request("PUT", f"/v1/authorizations/{payment}", body, {"Authorization": f"Bearer {API_KEY}"})
    connection.close()

    deadline = time.monotonic() + WAIT_SECONDS
    while processor.get(payment).status == 404 and time.monotonic() < deadline:
        pass
    assert processor.get(payment).body["state"] == "authorized"


def test_a_void_overtakes_a_slow_authorisation_and_a_slow_capture(processor: Processor, payment: str) -> None:
    """Whichever the processor sees first, a voided payment is neither authorised nor captured by a slow call."""
    with ThreadPoolExecutor() as pool:
        slow = pool.submit(processor.authorize, payment, "tok_slow")
        assert processor.void(payment).status == 200
        assert slow.result().body["error"] == {"code": "voided"}

        other = f"{payment}-other"
        processor.authorize(other, "tok_slow_capture")
        slow = pool.submit(processor.capture, other)
        assert processor.void(other).status == 200
        assert slow.result().body["error"] == {"code": "voided"}
    assert processor.effects(payment) == [("voided", 0)]
    assert processor.effects(other) == [("authorized", 1250), ("voided", 1250)]


def test_a_slow_capture_takes_effect_at_its_end(processor: Processor, payment: str) -> None:
    """Only the capture of this token is slow."""
    processor.authorize(payment, "tok_slow_capture")
    started = time.monotonic()

    assert processor.capture(payment).body["captured_minor"] == 1250
    assert time.monotonic() - started >= SLOW_SECONDS
    assert processor.effects(payment) == [("authorized", 1250), ("captured", 1250)]


def test_a_lost_reply_to_an_authorisation_is_found_by_asking(processor: Processor, payment: str) -> None:
    """The authorisation took effect though its caller heard nothing; repeating it answers, and acts no more."""
    with pytest.raises(ConnectionError):
        processor.authorize(payment, "tok_lost_reply")

    assert processor.get(payment).body["state"] == "authorized"
    assert processor.authorize(payment, "tok_lost_reply") == Answer(201, processor.get(payment).body)
    assert processor.effects(payment) == [("authorized", 1250)]


def test_a_lost_reply_to_a_capture_is_found_by_asking(processor: Processor, payment: str) -> None:
    """The capture took effect though its caller heard nothing; repeating it answers, and acts no more."""
    assert processor.authorize(payment, "tok_lost_capture").status == 201
    with pytest.raises(ConnectionError):
        processor.capture(payment)

    assert processor.get(payment).body["state"] == "captured"
    assert processor.capture(payment) == processor.get(payment)
    assert processor.effects(payment) == [("authorized", 1250), ("captured", 1250)]


def test_an_unavailable_processor_records_nothing(processor: Processor, payment: str) -> None:
    """503 leaves no trace, so the id is still free."""
    assert processor.authorize(payment, "tok_unavailable") == Answer(503, {"error": {"code": "unavailable"}})
    assert processor.get(payment) == Answer(404, {"error": {"code": "not_found"}})
    assert processor.capture(payment).status == 404
    assert processor.effects(payment) == []
    assert processor.authorize(payment).status == 201


def test_a_void_before_its_authorisation_leaves_a_tombstone(processor: Processor, payment: str) -> None:
    """An authorisation that comes late finds its id voided, and no money is ever held."""
    tombstone = processor.void(payment)

    assert (tombstone.status, tombstone.body["state"], tombstone.body["amount_minor"]) == (200, "voided", None)
    assert processor.void(payment) == tombstone
    late = [processor.authorize(payment), processor.authorize(payment, "tok_declined"), processor.capture(payment)]
    for answer in late:
        assert answer == Answer(409, {"error": {"code": "voided"}, "authorization": tombstone.body})
    assert processor.effects(payment) == [("voided", 0)]


def test_a_voided_authorisation_is_not_authorised_again(processor: Processor, payment: str) -> None:
    """Repeating the authorisation of a voided payment must not sound like money being held."""
    processor.authorize(payment)
    voided = processor.void(payment)

    for late in (processor.authorize(payment), processor.capture(payment)):
        assert late == Answer(409, {"error": {"code": "voided"}, "authorization": voided.body})


def test_a_captured_payment_cannot_be_voided(processor: Processor, payment: str) -> None:
    """The refusal carries the payment as it stands, so the caller learns the truth."""
    processor.authorize(payment)
    captured = processor.capture(payment)

    assert processor.void(payment) == Answer(409, {"error": {"code": "captured"}, "authorization": captured.body})


def test_capture_and_void_exclude_each_other(tmp_path: Path) -> None:
    """200 races between two processes over one ledger, so that only the ledger's own transaction can decide."""
    payments = [f"race-{number}" for number in range(200)]
    start = threading.Barrier(2, timeout=WAIT_SECONDS)

    def race(call: Callable[[str], Answer], payment: str) -> Answer:
        start.wait()
        return call(payment)

    with Processor(tmp_path) as capturing, Processor(tmp_path) as voiding, ThreadPoolExecutor(2) as pool:
        for payment in payments:
            capturing.authorize(payment)
            captured = pool.submit(race, capturing.capture, payment)
            voided = pool.submit(race, voiding.void, payment)
            won = "captured" if captured.result().status == 200 else "voided"
            assert {captured.result().status, voided.result().status} == {200, 409}
            assert capturing.effects(payment) == voiding.effects(payment) == [("authorized", 1250), (won, 1250)]


def test_many_callers_with_one_id_make_one_authorisation(processor: Processor, payment: str) -> None:
    """Twenty at once, slowly: one effect, twenty equal answers."""
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: processor.authorize(payment, "tok_slow"), range(20)))

    assert answers == [Answer(201, processor.get(payment).body)] * 20
    assert processor.effects(payment) == [("authorized", 1250)]


def test_lists_are_paged_in_the_order_of_arrival(tmp_path: Path) -> None:
    """Following next_after meets every authorisation and every entry once."""
    with Processor(tmp_path) as own:
        payments = [f"payment-{number}" for number in range(5)]
        for payment in payments:
            own.authorize(payment)
            own.capture(payment)

        pages = [page["authorizations"] for page in _pages(own, "/v1/authorizations?limit=2")]
        assert [[item["id"] for item in page] for page in pages] == [payments[:2], payments[2:4], payments[4:]]
        entries = [entry for page in _pages(own, "/v1/ledger?limit=3") for entry in page["entries"]]
        assert [entry["authorization_id"] for entry in entries] == [payment for payment in payments for _ in range(2)]
        assert [entry["sequence"] for entry in entries] == list(range(1, 11))
        assert len(own.call("GET", "/v1/ledger?limit=10").body["entries"]) == 10
        assert own.call("GET", "/v1/ledger?limit=10").body["next_after"] is None


def _pages(processor: Processor, path: str) -> Iterator[dict[str, Any]]:
    after = 0
    for _ in range(10):
        page = processor.call("GET", f"{path}&after={after}").body
        yield page
        if page["next_after"] is None:
            return
        after = page["next_after"]
    pytest.fail("the list does not end")


def test_what_was_answered_survives_sigkill_and_a_restart(tmp_path: Path) -> None:
    """Killed right after it answered, the processor knows on the same ledger all that it has promised."""
    with Processor(tmp_path) as first:
        first.authorize("declined", "tok_declined")
        first.void("tombstone")
        first.authorize("lost", "tok_lost_capture")
        first.authorize("captured")
        captured = first.capture("captured")
        before = first.call("GET", "/v1/ledger").body
        assert first.stop(signal.SIGKILL) == -signal.SIGKILL

    with Processor(tmp_path) as second:
        assert second.get("captured") == captured
        assert second.call("GET", "/v1/ledger").body == before
        assert second.authorize("declined", "tok_declined").status == 402
        assert second.authorize("tombstone").body["error"] == {"code": "voided"}
        with pytest.raises(ConnectionError):
            second.capture("lost")
        assert second.capture("lost").body["state"] == "captured"
        assert second.stop() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopping_processor_answers_what_it_has_begun(tmp_path: Path, number: signal.Signals) -> None:
    """A capture in progress is finished and answered before the process ends with 0."""
    with Processor(tmp_path, slow_seconds=0.5) as own:
        own.authorize("slow", "tok_slow_capture")
        with _capture_begun(own, "slow") as connection:
            assert own.stop(number) == 0
            assert b'"state": "captured"' in connection.recv(4096)


def test_a_stopping_processor_does_not_wait_for_ever(tmp_path: Path) -> None:
    """A capture that would take a minute is given up, without an effect."""
    with Processor(tmp_path, slow_seconds=60) as own:
        own.authorize("slow", "tok_slow_capture")
        with _capture_begun(own, "slow"):
            started = time.monotonic()
            assert own.stop() == 0
            assert time.monotonic() - started < STOP_LIMIT_SECONDS
    with Processor(tmp_path) as again:
        assert again.effects("slow") == [("authorized", 1250)]


def _capture_begun(processor: Processor, payment: str) -> socket.socket:
    """Send a capture and wait until the processor works on it, which its "100 Continue" tells."""
    host, _, port = processor.address.rpartition(":")
    connection = socket.create_connection((host, int(port)), WAIT_SECONDS)
    head = f"POST /v1/authorizations/{payment}/capture HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {API_KEY}\r\n"
    connection.sendall(f"{head}Content-Length: 2\r\nExpect: 100-continue\r\n\r\n".encode())
    assert connection.recv(4096).startswith(b"HTTP/1.1 100 ")
    connection.sendall(b"{}")
    return connection


def test_it_listens_on_a_unix_socket_and_takes_a_stale_one_over(tmp_path: Path) -> None:
    """A killed processor leaves its socket's file behind; the next one starts all the same."""
    listen = f"unix:{tmp_path}/socket"
    with Processor(tmp_path, listen=listen) as first:
        assert first.address == listen
        assert first.authorize("paid").status == 201
        first.stop(signal.SIGKILL)

    with Processor(tmp_path, listen=listen) as second:
        assert second.get("paid").status == 200
