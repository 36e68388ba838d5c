"""Bytes that are no request: refused as malformed, by the field's path where there is one, before the handler."""

import grpc
import pytest
from google.type.postal_address_pb2 import PostalAddress
from libretto.pricing.v1 import pricing_service_pb2 as pb

from services.common.server import MAX_REQUEST_BYTES
from tests.integration.common.host import hosted
from tests.rpc import refusal

VALID = pb.CreateQuoteRequest(
    request_id="key",
    lines=[pb.CreateQuoteLine(product_id="a", quantity=1), pb.CreateQuoteLine(product_id="b", quantity=2)],
    currency_code="EUR",
    shipping_address=PostalAddress(region_code="AT", address_lines=["Ring 1"]),
).SerializeToString()

VARINT, FIXED64, BYTES, GROUP, END_GROUP, FIXED32 = range(6)
PAYLOADS = {
    VARINT: b"\x07",
    FIXED64: b"\0" * 8,
    BYTES: b"\x01x",
    FIXED32: b"\0" * 4,
}


def field(number: int, wire_type: int, payload: bytes | None = None) -> bytes:
    """Write a field of at most number 15 as the wire has it."""
    return bytes([number << 3 | wire_type]) + (PAYLOADS[wire_type] if payload is None else payload)


def message(number: int, content: bytes) -> bytes:
    """Write a message of at most 127 bytes as a field."""
    return field(number, BYTES, bytes([len(content)]) + content)


@pytest.mark.parametrize(
    "data",
    [
        b"\xff",
        b"\xff" * 100,
        b"\x00\x00",
        VALID[:-1],
        VALID[:1],
        field(1, BYTES, b"\x05abc"),
        field(1, BYTES, b"\x02\xff\xfe"),
        message(3, field(1, BYTES, b"\x02\xff\xfe")),
        message(3, b"\xff"),
        field(1, GROUP, b""),
        field(1, END_GROUP, b""),
        b"\x07",
    ],
    ids=lambda data: data[:12].hex(),
)
async def test_bytes_that_are_no_message_are_refused(data: bytes) -> None:
    """Garbage, what was cut off, text that is not UTF-8, and groups that do not end."""
    async with hosted() as host:
        found = await refusal(host.send("CreateQuote", data))
        assert (found.code, found.reason, found.domain) == (
            grpc.StatusCode.INVALID_ARGUMENT,
            "MALFORMED_REQUEST",
            "common.libretto",
        )
        assert found.metadata == {}
        assert host.handlers.requests == []


@pytest.mark.parametrize(
    ("data", "path"),
    [
        (field(1, VARINT), "request_id"),
        (field(1, FIXED32), "request_id"),
        (field(1, FIXED64), "request_id"),
        (field(1, GROUP, field(1, END_GROUP, b"")), "request_id"),
        (VALID + field(4, VARINT), "currency_code"),
        (field(3, VARINT), "lines"),
        (field(5, FIXED32), "shipping_address"),
        (message(3, field(2, BYTES)), "lines[0].quantity"),
        (message(3, field(2, FIXED64)), "lines[0].quantity"),
        (VALID + message(3, field(1, VARINT)), "lines[2].product_id"),
        (message(5, field(2, VARINT)), "shipping_address.region_code"),
        (message(5, field(9, FIXED32)), "shipping_address.address_lines"),
        (VALID + message(5, field(1, BYTES)), "shipping_address.revision"),
    ],
    ids=lambda value: value if isinstance(value, str) else value[-6:].hex(),
)
async def test_a_known_field_with_a_wrong_wire_type_is_refused_by_its_path(data: bytes, path: str) -> None:
    """Protobuf itself would read over it and go on with the default."""
    async with hosted() as host:
        found = await refusal(host.send("CreateQuote", data))
        assert (found.code, found.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "MALFORMED_REQUEST")
        assert found.metadata == {"field": path}
        assert host.handlers.requests == []


async def test_fields_of_a_newer_contract_are_read_over() -> None:
    """A newer client may call an older server: unknown numbers are no fault, at any depth."""
    newer = VALID + field(15, VARINT) + message(3, field(1, BYTES) + field(14, BYTES)) + message(5, field(15, FIXED64))
    async with hosted() as host:
        assert await host.send("CreateQuote", newer) == b""
        (request,) = host.handlers.requests
    assert isinstance(request, pb.CreateQuoteRequest)
    assert [line.product_id for line in request.lines] == ["a", "b", "x"]


async def test_an_empty_request_is_a_message() -> None:
    """What it lacks is for the handler to say."""
    async with hosted() as host:
        assert await host.send("CreateQuote", b"") == b""


async def test_deep_nesting_is_refused() -> None:
    """A bomb of groups inside groups neither breaks the parser nor the walk over unknown fields."""
    bomb = bytes([15 << 3 | GROUP]) * 10_000 + bytes([15 << 3 | END_GROUP]) * 10_000
    async with hosted() as host:
        found = await refusal(host.send("CreateQuote", bomb))
        assert found.reason == "MALFORMED_REQUEST"
        assert await host.send("CreateQuote", VALID) == b""


async def test_a_huge_message_is_refused_and_the_server_goes_on() -> None:
    """By the library, which does not read it whole; one below the limit is read."""
    async with hosted() as host:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await host.send("CreateQuote", b"\0" * (MAX_REQUEST_BYTES + 1))
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert host.handlers.requests == []
        large = pb.CreateQuoteRequest(request_id="x" * (MAX_REQUEST_BYTES - 100)).SerializeToString()
        assert await host.send("CreateQuote", large) == b""
