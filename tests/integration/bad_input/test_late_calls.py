"""Calls that come too late: the caller sees DEADLINE_EXCEEDED, whoever notices first, and nothing is booked."""

import grpc
import pytest

from tests.integration.bad_input.methods import METHODS, MUTATIONS, call
from tests.integration.bad_input.requests import VALID
from tests.integration.bad_input.world import World, nothing_booked

TRIES = 5
MILLISECOND = 0.001


@pytest.mark.parametrize("name", METHODS)
async def test_a_millisecond_is_too_little_for_anything(world: World, name: str) -> None:
    """Each time, and for every method. Its server still answers those who have time."""
    request = VALID[name](world)
    async with nothing_booked(world):
        for _ in range(TRIES):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call(world.shop, name, request, timeout_seconds=MILLISECOND)
            assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        if name not in MUTATIONS:
            await call(world.shop, name, request)


async def test_calls_that_come_too_late_leave_none_open(world: World) -> None:
    """Nothing of the tests above is still running, and servers have counted what they refused."""
    for running in world.shop.running.values():
        assert running.stats.open_calls == 0
