"""What no gRPC client would send: headers outside ASCII, and bytes that are no HTTP/2, by a socket of our own.

The frames and the header block are written by hand, as RFC 9113 (HTTP/2) and RFC 7541 (HPACK) say.
"""

import asyncio
import struct
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from tests.integration.common.host import SERVICE, Host, hosted, soon

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RESET, SETTINGS, GOAWAY = 0, 1, 3, 4, 7
END_STREAM, END_HEADERS = 1, 4
EMPTY_REQUEST = b"\0" * 5
FRAMES_LIMIT = 50
REQUEST_HEADERS = [
    (b":method", b"POST"),
    (b":scheme", b"http"),
    (b":path", f"/{SERVICE}/GetQuote".encode()),
    (b":authority", b"localhost"),
    (b"content-type", b"application/grpc"),
    (b"te", b"trailers"),
]


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Write a frame: length, type, flags, stream, payload."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def header_block(headers: Sequence[tuple[bytes, bytes]]) -> bytes:
    """Write headers as literals without indexing, each of less than 127 bytes."""
    return b"".join(b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value for name, value in headers)


def request(*metadata: tuple[bytes, bytes]) -> bytes:
    """Write a whole call on the first stream."""
    block = header_block([*REQUEST_HEADERS, *metadata])
    return (
        PREFACE
        + frame(SETTINGS, 0, 0)
        + frame(HEADERS, END_HEADERS, 1, block)
        + frame(DATA, END_STREAM, 1, EMPTY_REQUEST)
    )


@asynccontextmanager
async def connected(host: Host) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Open a connection to a host's socket."""
    reader, writer = await asyncio.open_unix_connection(host.running.address.removeprefix("unix:"))
    try:
        yield reader, writer
    finally:
        writer.close()


async def end_of_call(reader: asyncio.StreamReader) -> str:
    """Read frames until the call is answered, reset, or its connection ends."""
    for _ in range(FRAMES_LIMIT):
        try:
            head = await reader.readexactly(9)
            await reader.readexactly(int.from_bytes(head[:3], "big"))
        except asyncio.IncompleteReadError:
            return "closed"
        kind, flags = head[3], head[4]
        if kind == HEADERS and flags & END_STREAM:
            return "answered"
        if kind in {RESET, GOAWAY}:
            return "refused"
    pytest.fail("the call does not end")


async def outcome(host: Host, data: bytes) -> str:
    """Send bytes on a connection of their own, and tell how the call ended."""
    async with connected(host) as (reader, writer):
        writer.write(data)
        return str(await soon(end_of_call(reader)))


async def test_a_call_written_by_hand_is_answered() -> None:
    """So what the tests below send differs from a good call in one thing only."""
    async with hosted() as host:
        assert await outcome(host, request((b"x-note", b"plain"))) == "answered"
        assert len(host.handlers.requests) == 1


@pytest.mark.parametrize(
    "metadata",
    [
        (b"x-note", "Schön".encode()),
        (b"x-note", b"\xff\xfe\x80"),
        (b"traceparent", b"\xff" * 55),
        (b"tracestate", "ä=ö".encode()),
        (b"x-note-bin", b"not base64 at all!"),
        (b"grpc-timeout", b"soon"),
        (b"grpc-timeout", b"\xff"),
        (b"x-note", b"a\r\nb"),
        ("x-nöte".encode(), b"plain"),
    ],
    ids=str,
)
async def test_a_header_outside_the_rules_ends_the_call_and_nothing_else(metadata: tuple[bytes, bytes]) -> None:
    """It is answered or refused, never left hanging, and the next caller notices nothing."""
    async with hosted() as host:
        assert await outcome(host, request(metadata)) in {"answered", "refused", "closed"}
        assert await soon(host.send("GetQuote", b"")) == b""
        assert host.running.stats.open_calls == 0


@pytest.mark.parametrize(
    "data",
    [b"GET / HTTP/1.1\r\n\r\n", b"\0" * 64, b"\xff" * 64, PREFACE + b"\xff" * 64, PREFACE + frame(DATA, 0, 1, b"x")],
    ids=lambda data: data[:40].hex(),
)
async def test_bytes_that_are_no_call_end_their_connection_and_nothing_else(data: bytes) -> None:
    """The next caller notices nothing."""
    async with hosted() as host:
        assert await outcome(host, data) in {"refused", "closed"}
        assert await soon(host.send("GetQuote", b"")) == b""


async def test_one_connection_of_calls_that_never_send_a_message_stops_nobody_else() -> None:
    """Three thousand of them are begun; a caller on another connection, and the health check, are answered."""
    half_calls = b"".join(
        frame(HEADERS, END_HEADERS, stream, header_block(REQUEST_HEADERS)) for stream in range(1, 6001, 2)
    )
    async with hosted(open_calls_limit=2) as host, connected(host) as (_, writer):
        writer.write(PREFACE + frame(SETTINGS, 0, 0) + half_calls)
        await soon(writer.drain())
        for _ in range(20):
            assert await soon(host.send("GetQuote", b"")) == b""


async def test_a_tracestate_goes_no_further() -> None:
    """Whatever a caller writes into it: spans, rows and logs would keep it."""
    async with hosted() as host:
        metadata = (
            (b"traceparent", b"00-" + b"ab" * 16 + b"-" + b"cd" * 8 + b"-01"),
            (b"tracestate", b"mail=a@b.example"),
        )
        assert await outcome(host, request(*metadata)) == "answered"
        (span,) = host.spans.get_finished_spans()
        assert (f"{span.context.trace_id:x}", len(span.context.trace_state)) == ("ab" * 16, 0)
