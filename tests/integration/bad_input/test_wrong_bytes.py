"""Requests that are no messages of their type, for every method: refused as malformed, and nothing is booked."""

import grpc
import pytest

from tests.integration.bad_input.methods import METHODS, send
from tests.integration.bad_input.requests import VALID
from tests.integration.bad_input.walks import misread
from tests.integration.bad_input.world import World, nothing_booked
from tests.rpc import Refusal, refusal


def is_malformed(found: Refusal) -> bool:
    """Tell whether a refusal is the one for bytes that are no request."""
    return (found.code, found.reason, found.domain) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "MALFORMED_REQUEST",
        "common.libretto",
    )


@pytest.mark.parametrize("name", METHODS)
async def test_malformed_protobuf_is_refused(world: World, name: str) -> None:
    """Garbage, a valid request that was cut off, and one with something left over."""
    valid = VALID[name](world).SerializeToString()
    async with nothing_booked(world):
        for data in (b"\xff", valid[:-1], valid + b"\xff", valid + b"\x0b", b"\x0a\xff\x7f" + valid):
            found = await refusal(send(world.shop, name, data))
            assert is_malformed(found), data
            assert found.metadata == {}


@pytest.mark.parametrize("name", METHODS)
async def test_every_field_with_a_wrong_wire_type_is_refused_by_its_path(world: World, name: str) -> None:
    """Nested ones too: what protobuf would read over must not be taken for missing, or for the default."""
    request = VALID[name](world)
    valid = request.SerializeToString()
    async with nothing_booked(world):
        for path, data in misread(request):
            found = await refusal(send(world.shop, name, valid + data))
            assert is_malformed(found), path
            assert found.metadata == {"field": path}


@pytest.mark.parametrize("name", METHODS)
async def test_a_text_that_is_not_utf_8_is_refused(world: World, name: str) -> None:
    """No text of a request can hold half a character."""
    texts = [field for field in METHODS[name].input_type.fields if field.type == field.TYPE_STRING]
    valid = VALID[name](world).SerializeToString()
    async with nothing_booked(world):
        for field in texts:
            found = await refusal(send(world.shop, name, valid + bytes([field.number << 3 | 2]) + b"\x02\xc3\x28"))
            assert is_malformed(found), field.name
    assert texts
