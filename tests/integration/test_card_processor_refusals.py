"""What the simulated card processor refuses: callers without its key, bad input, broken HTTP, bad settings."""

import os
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from uuid import uuid4

import pytest

from tests.integration.card_processor import API_KEY, ROOT, WAIT_SECONDS, Answer, Processor


@pytest.fixture(scope="module")
def processor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processor]:
    """A processor that the tests which leave it running share."""
    with Processor(tmp_path_factory.mktemp("processor")) as shared:
        yield shared


@pytest.fixture
def payment() -> str:
    """An id that nobody used before."""
    return str(uuid4())


@pytest.mark.parametrize("key", ["", "Bearer wrong", API_KEY, f"bearer {API_KEY}x", "Bearer \u00e9"])
def test_without_the_api_key_nobody_gets_in(processor: Processor, payment: str, key: str) -> None:
    """Whatever is asked, and even where there is nothing, the answer is 401 and nothing happens."""
    refused = Answer(401, {"error": {"code": "unauthorized"}})

    assert processor.call("POST", f"/v1/authorizations/{payment}/void", key=key) == refused
    assert processor.call("GET", "/v1/authorizations", key=key) == refused
    assert processor.call("GET", "/nowhere", key=key) == refused
    assert processor.get(payment).status == 404


GOOD = {"amount_minor": 1250, "currency": "EUR", "token": "tok_succeeds"}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (None, "amount_minor"),
        (b"{", "body"),
        (b"\xff\xfe", "body"),
        (b"[" * 16_000, "body"),
        (b'{"amount_minor": 1' + b"0" * 8_000 + b"}", "body"),
        ([], "body"),
        ("tok_succeeds", "body"),
        ({**GOOD, "amount": 1}, "amount"),
        *(({**GOOD, "amount_minor": bad}, "amount_minor") for bad in (None, 0, -1, 10**12 + 1, 12.5, 1.0, "1", True)),
        *(({**GOOD, "currency": bad}, "currency") for bad in (None, "", "eur", "EURO", "EU", "ÉUR", "EUR\n", 978)),
        *(({**GOOD, "token": bad}, "token") for bad in (None, "", "t" * 256, 1, ["tok_succeeds"])),
        *(({name: GOOD[name] for name in GOOD if name != left_out}, left_out) for left_out in GOOD),
    ],
)
def test_a_bad_body_is_refused_with_its_field(processor: Processor, payment: str, body: object, field: str) -> None:
    """400, a code, the field and what is asked of it; nothing is recorded."""
    refused = processor.call("PUT", f"/v1/authorizations/{payment}", body)

    assert refused.status == 400
    assert (refused.body["error"]["code"], refused.body["error"]["field"]) == ("invalid_field", field)
    assert refused.body["error"]["message"]
    assert processor.get(payment).status == 404


@pytest.mark.parametrize(
    ("method", "path", "field"),
    [
        ("PUT", f"/v1/authorizations/{'i' * 65}", "authorization_id"),
        ("PUT", "/v1/authorizations/a%20b", "authorization_id"),
        ("GET", "/v1/authorizations/a.b", "authorization_id"),
        ("POST", "/v1/authorizations/a%0A/capture", "authorization_id"),
        ("POST", "/v1/authorizations/%C3%A9/void", "authorization_id"),
        ("GET", "/v1/ledger?authorization_id=", "authorization_id"),
        ("GET", "/v1/ledger?after=-1", "after"),
        ("GET", "/v1/ledger?after=9999999999999999999", "after"),
        ("GET", "/v1/authorizations?after=x", "after"),
        ("GET", "/v1/authorizations?limit=0", "limit"),
        ("GET", "/v1/authorizations?limit=201", "limit"),
        ("GET", "/v1/ledger?limit=%D9%A1", "limit"),
    ],
)
def test_a_bad_path_or_query_is_refused_with_its_field(
    processor: Processor, method: str, path: str, field: str
) -> None:
    """What does not stand in the body is checked like it."""
    refused = processor.call(method, path, GOOD if method == "PUT" else None)

    assert refused.status == 400
    assert (refused.body["error"]["code"], refused.body["error"]["field"]) == ("invalid_field", field)


def test_a_capture_of_a_part_is_refused(processor: Processor, payment: str) -> None:
    """Captures are of the full amount: an amount given must not be passed over in silence."""
    processor.authorize(payment)
    refused = processor.call("POST", f"/v1/authorizations/{payment}/capture", {"amount_minor": 1})

    assert (refused.status, refused.body["error"]["field"]) == (400, "amount_minor")
    assert processor.effects(payment) == [("authorized", 1250)]


def test_what_is_too_large_or_not_there_is_refused(processor: Processor, payment: str) -> None:
    """Bodies above 16 KiB, unknown paths and methods have codes of their own."""
    path = f"/v1/authorizations/{payment}"
    too_large = processor.call("PUT", path, {**GOOD, "token": "t" * 16 * 1024})

    assert too_large == Answer(413, {"error": {"code": "request_entity_too_large"}})
    assert processor.call("POST", f"{path}/void", b" " * 17 * 1024).status == 413
    assert processor.call("GET", "/v1/nothing") == Answer(404, {"error": {"code": "not_found"}})
    assert processor.call("DELETE", path) == Answer(405, {"error": {"code": "method_not_allowed"}})


PUT_HEAD = f"PUT /v1/authorizations/broken HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {API_KEY}\r\n"


@pytest.mark.parametrize(
    "raw",
    [
        f"{PUT_HEAD}Content-Length: 9\r\n\r\n{{",
        f"{PUT_HEAD}Transfer-Encoding: chunked\r\n\r\nzz\r\n\r\n",
        f"{PUT_HEAD}Content-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnope",
        f"{PUT_HEAD}Authorization : Bearer {API_KEY}\r\n\r\n",
        f"{PUT_HEAD}X-Key: {API_KEY}\x00\r\n\r\n",
        f"\x16\x03\x01\x02\x00{API_KEY}",
    ],
)
def test_broken_http_is_survived_without_a_stack_trace(processor: Processor, raw: str) -> None:
    """No stack trace reaches the caller, no key the log, nothing is recorded, and the next caller is served."""
    host, _, port = processor.address.rpartition(":")
    with socket.create_connection((host, int(port)), WAIT_SECONDS) as connection:
        connection.sendall(raw.encode("latin-1"))
        connection.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: connection.recv(4096), b""))

    assert not answer or answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.0 400 "))
    assert b"Traceback" not in answer
    assert processor.get("broken").status == 404
    assert API_KEY not in processor.errors()


def test_a_failing_ledger_records_no_half_of_a_change(tmp_path: Path) -> None:
    """Where the entry cannot be written the authorisation is not either; the caller hears 500, the log why."""
    with Processor(tmp_path) as own:
        with closing(sqlite3.connect(tmp_path / "ledger.sqlite")) as ledger:
            ledger.execute("ALTER TABLE entries RENAME TO lost")

        assert own.authorize("half") == Answer(500, {"error": {"code": "internal_server_error"}})
        assert own.get("half").status == 404
    assert "no such table: entries" in own.errors()


def test_neither_ledger_nor_log_holds_a_token_or_the_key(tmp_path: Path) -> None:
    """Of a token only its kind is kept."""
    with Processor(tmp_path) as own:
        for token in ("tok_succeeds", "tok_lost_capture", "tok_of_a_person"):
            own.authorize(token.replace("_", "-"), token)
        own.call("GET", "/v1/ledger", key="Bearer wrong")
        own.stop(signal.SIGKILL)

    kept = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"lost_capture" in kept
    for secret in (b"tok_", b"of_a_person", API_KEY.encode()):
        assert secret not in kept


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("LISTEN", "", "must be set"),
        ("LISTEN", "nowhere", "LIBRETTO_CARD_PROCESSOR_LISTEN"),
        ("LEDGER", "", "must be set"),
        ("LEDGER", "/nowhere/ledger", "unable to open"),
        ("API_KEY", "", "must be set"),
        ("SLOW_SECONDS", "soon", "LIBRETTO_CARD_PROCESSOR_SLOW_SECONDS"),
    ],
)
def test_a_bad_setting_stops_the_start_with_one_sentence(tmp_path: Path, name: str, value: str, told: str) -> None:
    """The sentence names the setting; there is no stack trace and no key in it."""
    settings = {"LISTEN": "127.0.0.1:0", "LEDGER": str(tmp_path / "ledger"), "API_KEY": API_KEY, name: value}
    ended = subprocess.run(
        [sys.executable, "-m", "services.outside.card_processor"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"]} | {f"LIBRETTO_CARD_PROCESSOR_{key}": text for key, text in settings.items()},
        capture_output=True,
        text=True,
        timeout=WAIT_SECONDS,
        check=False,
    )

    assert ended.returncode == 1
    assert ended.stdout == ""
    assert told in ended.stderr
    assert ended.stderr.count("\n") == 1
    assert API_KEY not in ended.stderr
