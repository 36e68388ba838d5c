"""Deadlines: counted down, narrowed by budgets, reduced for each hop, and kept by the layer around handlers."""

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import cast

import pytest
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message

from services.common import deadline
from services.common.deadline import DeadlineRules, for_call, remaining_seconds, within, without_callers
from services.common.layers import CallStats, Context, Method
from services.common.values import DeadlineExceededError, DeadlineTooShortError
from tests.fakes.clock import in_virtual_time

METHOD = Method("libretto.test.v1.TestService/Test", 2.0)
RULES = DeadlineRules(margin_ms=10, minimum_ms=20)


class Hand:
    """The hand of a clock that tests move."""

    seconds = 100.0


@pytest.fixture(name="hand")
def _hand(monkeypatch: pytest.MonkeyPatch) -> Hand:
    hand = Hand()
    monkeypatch.setattr(deadline, "time", SimpleNamespace(monotonic=lambda: hand.seconds))
    return hand


def test_without_a_call_there_is_no_deadline() -> None:
    """As in work that goes on behind the calls."""
    assert remaining_seconds() is None


def test_a_budget_is_counted_down_and_may_be_overdrawn(hand: Hand) -> None:
    """What is left is negative once the time is over; outside the block there is no deadline again."""
    with within(2.0):
        hand.seconds += 0.5
        assert remaining_seconds() == 1.5
        hand.seconds += 2.0
        assert remaining_seconds() == -0.5
    assert remaining_seconds() is None


def test_the_nearer_of_two_deadlines_holds(hand: Hand) -> None:
    """A budget inside a budget can only narrow it, and ends with its block."""
    with within(2.0):
        with within(5.0):
            assert remaining_seconds() == 2.0
        with within(0.5):
            assert remaining_seconds() == 0.5
            hand.seconds += 0.25
        assert remaining_seconds() == 1.75


def test_work_that_outlives_its_call_forgets_the_call_s_deadline(hand: Hand) -> None:
    """It has budgets of its own; the caller's holds again behind it."""
    with within(2.0):
        with without_callers():
            assert remaining_seconds() is None
            with within(9.0):
                assert remaining_seconds() == 9.0
        hand.seconds += 1.0
        assert remaining_seconds() == 1.0


def test_a_deadline_is_taken_back_when_its_block_fails(hand: Hand) -> None:
    """An error leaves nothing behind."""
    assert hand.seconds > 0
    for block in (within(2.0), without_callers()):
        with pytest.raises(ZeroDivisionError), block:
            _ = 1 // 0
        assert remaining_seconds() is None


def test_a_call_that_goes_out_gets_what_is_left_less_the_margin(hand: Hand) -> None:
    """So that its answer still reaches our caller."""
    with within(1.0):
        hand.seconds += 0.25
        assert for_call(METHOD, RULES) == pytest.approx(0.74)


def test_a_call_without_a_deadline_gets_the_default_of_its_contract(hand: Hand) -> None:
    """No call goes out without one."""
    assert hand.seconds > 0
    assert for_call(METHOD, RULES) == pytest.approx(1.99)


@pytest.mark.parametrize("left_seconds", [0.029, 0.01, 0.0, -1.0])
def test_a_call_that_has_too_little_left_does_not_go_out(hand: Hand, left_seconds: float) -> None:
    """What is left less the margin must reach the minimum."""
    assert hand.seconds > 0
    with within(left_seconds), pytest.raises(DeadlineTooShortError, match="Too little time"):
        for_call(METHOD, RULES)
    with within(0.031):
        assert for_call(METHOD, RULES) == pytest.approx(0.021)


def in_the_loop_s_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the module and the loop count the same time."""
    monkeypatch.setattr(deadline, "time", SimpleNamespace(monotonic=lambda: asyncio.get_running_loop().time()))


async def call(
    handler: Callable[[], Awaitable[None]], left_seconds: float | None, stats: CallStats, rules: DeadlineRules = RULES
) -> float:
    """Run a handler in the layer, for a caller that gives so much time; return how much it took."""

    async def handle(_request: Message, _context: Context) -> Message:
        await handler()
        return Empty()

    context = cast("Context", SimpleNamespace(time_remaining=lambda: left_seconds))
    began_seconds = asyncio.get_running_loop().time()
    await deadline.layer(rules, stats)(METHOD, handle)(Empty(), context)
    return asyncio.get_running_loop().time() - began_seconds


@pytest.mark.parametrize(
    ("left_seconds", "seen_seconds"), [(1.0, 0.98), (10.0, 9.89), (0.021, 0.01079), (None, 1.99), (1e9, 1.99)]
)
def test_a_handler_sees_its_caller_s_time_less_the_margin(
    monkeypatch: pytest.MonkeyPatch, left_seconds: float | None, seen_seconds: float
) -> None:
    """And less a hundredth, by which gRPC may have rounded it up.

    The contract's default stands in for none, and for one so far that it is none.
    """
    in_the_loop_s_time(monkeypatch)
    seen: list[float | None] = []

    async def look() -> None:
        seen.append(remaining_seconds())

    @in_virtual_time
    async def run() -> None:
        await call(look, left_seconds, CallStats())

    run()
    assert seen == [pytest.approx(seen_seconds)]


def test_a_handler_that_is_too_slow_is_ended_a_margin_before_its_caller_gives_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Then the caller still learns why."""
    in_the_loop_s_time(monkeypatch)
    ended: list[float] = []

    async def sleep() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            ended.append(asyncio.get_running_loop().time())

    @in_virtual_time
    async def run() -> None:
        with pytest.raises(DeadlineExceededError, match="repeat with the same request_id"):
            await call(sleep, 1.0, CallStats())

    run()
    assert ended == [pytest.approx(0.98)]


def test_a_handler_in_time_takes_its_own_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit costs nothing."""
    in_the_loop_s_time(monkeypatch)

    @in_virtual_time
    async def run() -> float:
        return await call(lambda: asyncio.sleep(0.5), 1.0, CallStats())

    assert run() == pytest.approx(0.5)


async def test_with_too_little_left_a_handler_does_not_begin_and_that_is_counted() -> None:
    """Nothing that was begun would reach the caller."""
    stats = CallStats()
    began = asyncio.Event()

    async def begin() -> None:
        began.set()

    for left_seconds in (0.0201, 0.001, 0.0, -1.0):
        with pytest.raises(DeadlineTooShortError, match="20 ms are needed to begin"):
            await call(begin, left_seconds, stats)
    assert stats.refused_for_deadline == 4
    assert not began.is_set()


async def test_a_time_out_of_the_handler_s_own_is_not_taken_for_the_caller_s() -> None:
    """It passes on as it is: what it means is for the handler to say."""

    async def fail() -> None:
        raise TimeoutError

    with pytest.raises(TimeoutError):
        await call(fail, 1.0, CallStats())


async def test_a_cancelled_call_is_not_taken_for_a_late_one() -> None:
    """Cancelling passes through the limit."""
    begun = asyncio.Event()

    async def wait() -> None:
        begun.set()
        await asyncio.Event().wait()

    running = asyncio.create_task(call(wait, 60.0, CallStats()))
    await begun.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
