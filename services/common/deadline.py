"""Deadlines, in one place: taken from the call or its contract, kept in a context variable, reduced for each hop.

A handler's time ends a margin before its caller gives up, so that the answer arrives. A call that goes out gets what
is left less that margin, or less where `within` sets a budget. No call goes out without a deadline, and none is begun,
in or out, with too little time left.
"""

import asyncio
import functools
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from google.protobuf.message import Message

from services.common.layers import CallStats, Context, Handler, Layer, Method
from services.common.values import DeadlineExceededError, DeadlineTooShortError

_UNLIMITED_SECONDS = 86_400.0
"""gRPC reports a missing deadline as None or as an absurdly long time; above this it counts as missing."""
_UNROUNDED_SHARE = 0.99
"""gRPC rounds a timeout up where it writes it, by up to a hundredth: the caller gives up earlier than it seems here."""

_deadline: ContextVar[float | None] = ContextVar("deadline", default=None)


@dataclass(frozen=True, slots=True)
class DeadlineRules:
    """How much time the way back takes, and how little is too little, in milliseconds."""

    margin_ms: int = 10
    minimum_ms: int = 20

    @property
    def margin_seconds(self) -> float:
        """The margin in seconds."""
        return self.margin_ms / 1000

    @property
    def minimum_seconds(self) -> float:
        """The minimum in seconds."""
        return self.minimum_ms / 1000


def remaining_seconds() -> float | None:
    """Return what is left of the present deadline, which may be negative, or None where there is none."""
    deadline = _deadline.get()
    return None if deadline is None else deadline - time.monotonic()


@contextmanager
def within(budget_seconds: float) -> Iterator[None]:
    """Give what runs inside a budget: the deadline is then the nearer of the present one and the budget's end."""
    budget_end = time.monotonic() + budget_seconds
    present = _deadline.get()
    token = _deadline.set(budget_end if present is None else min(present, budget_end))
    try:
        yield
    finally:
        _deadline.reset(token)


@contextmanager
def without_callers() -> Iterator[None]:
    """Forget the caller's deadline: for work that outlives the call, such as a saga, whose steps have budgets."""
    token = _deadline.set(None)
    try:
        yield
    finally:
        _deadline.reset(token)


def layer(rules: DeadlineRules, stats: CallStats) -> Layer:
    """Refuse what comes too late before any work, and end a handler before its caller gives up."""

    def wrap(method: Method, handler: Handler) -> Handler:
        @functools.wraps(handler)
        async def limited(request: Message, context: Context) -> Message:
            left_seconds = _time_left(method, context)
            if left_seconds < rules.minimum_seconds:
                stats.refused_for_deadline += 1
                left_ms = max(left_seconds, 0) * 1000
                raise DeadlineTooShortError(f"{left_ms:.0f} ms are left; {rules.minimum_ms} ms are needed to begin.")
            budget_seconds = left_seconds - rules.margin_seconds
            limit = asyncio.timeout(budget_seconds)
            try:
                with within(budget_seconds):
                    async with limit:
                        return await handler(request, context)
            except TimeoutError:
                if not limit.expired():
                    raise
                raise DeadlineExceededError from None

        return limited

    return wrap


def for_call(method: Method, rules: DeadlineRules) -> float:
    """Return the timeout in seconds of a call that goes out now; refuse one that has too little left to begin."""
    left_seconds = remaining_seconds()
    if left_seconds is None:
        left_seconds = method.default_deadline_seconds
    timeout_seconds = left_seconds - rules.margin_seconds
    if timeout_seconds < rules.minimum_seconds:
        raise DeadlineTooShortError(f"Too little time is left to call {method.full_name}.")
    return timeout_seconds


def _time_left(method: Method, context: Context) -> float:
    left_seconds: float | None = context.time_remaining()
    if left_seconds is None or left_seconds > _UNLIMITED_SECONDS:
        return method.default_deadline_seconds
    return left_seconds * _UNROUNDED_SHARE
