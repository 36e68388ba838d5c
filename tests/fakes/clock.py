"""Virtual time: an event loop whose clock jumps to the next thing to happen, so that nothing is ever waited for.

Everything that measures time by the loop or by a `VirtualClock` (sleeps, timeouts, deadlines) sees hours pass in
milliseconds, in the same order each time. A test that would hang fails at once: nothing is left that could happen.
"""

import asyncio
import datetime as dt
import functools
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_START = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


class VirtualClock:
    """A Clock that shows the running loop's time."""

    def now(self) -> dt.datetime:
        """Return the wall clock's time: the first second of 2026, and what has passed since the loop began."""
        return _START + dt.timedelta(seconds=self.monotonic_seconds())

    def monotonic_seconds(self) -> float:
        """Return the seconds since the loop began."""
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        """Wait for a number of virtual seconds."""
        await asyncio.sleep(seconds)


class StuckError(Exception):
    """Everything waits, and nothing is under way that could end the wait."""


class _JumpingSelector(selectors.DefaultSelector):
    """Instead of waiting it lets the time pass at once."""

    now_seconds = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready:
            if timeout is None:
                raise StuckError("every task waits for another one")
            self.now_seconds += max(timeout, 0.0)
        return ready


class _VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now_seconds


def run_in_virtual_time(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in a loop of its own, whose time is virtual."""
    with asyncio.Runner(loop_factory=_VirtualLoop) as runner:
        return runner.run(work)


def in_virtual_time(test: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, T]:
    """Turn an async test into one that runs in a loop of its own, whose time is virtual."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        return run_in_virtual_time(test(*args, **kwargs))

    return run
