"""Ctrl-C, SIGTERM and a closed terminal, as an end that cleans up: the first counts, what follows changes nothing."""

import asyncio
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any, Final

from scripts.lib.console import write_line

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_EXIT_STATUS_BASE: Final = 128  # A shell's convention for what a signal ended.


class Interrupts:
    """What came so far: nothing, or the signal that ends the work."""

    def __init__(self) -> None:
        """Wait for signals from now on, in the running loop.

        A hang-up that is ignored, as by `nohup`, stays so. An interrupt that is ignored does not: a script that starts
        something beside itself has it so without meaning it.
        """
        self._work: asyncio.Task[int] | None = None
        self._came = asyncio.Event()
        self.first: signal.Signals | None = None
        for number in _SIGNALS:
            if number is not signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
                asyncio.get_running_loop().add_signal_handler(number, self._receive, number)

    def break_off(self, work: "asyncio.Task[int] | None") -> None:
        """Name the task that the first signal cancels, or none."""
        self._work = work

    async def wait(self, meanwhile: Coroutine[Any, Any, None]) -> None:
        """Run something until a signal comes, which is then the expected end. Raises what it raises."""
        self._work = None
        tasks = (asyncio.create_task(meanwhile), asyncio.create_task(self._came.wait()))
        done, others = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in others:
            task.cancel()
        await asyncio.wait(tasks)
        for task in done:
            task.result()

    def _receive(self, number: signal.Signals) -> None:
        if self.first is None:
            self.first = number
            self._came.set()
            if self._work is not None:
                self._work.cancel()


def run(work: Callable[[Interrupts], Coroutine[Any, Any, int]]) -> int:
    """Run some work to its exit status; when a signal breaks it off, it can clean up, and the status says so."""
    return asyncio.run(_watched(work))


async def _watched(work: Callable[[Interrupts], Coroutine[Any, Any, int]]) -> int:
    interrupts = Interrupts()
    task = asyncio.create_task(work(interrupts))
    interrupts.break_off(task)
    try:
        return await task
    except asyncio.CancelledError:
        if interrupts.first is None:
            raise
        write_line(sys.stderr, f"\nEnded by {interrupts.first.name}; everything is stopped.")
        return _EXIT_STATUS_BASE + interrupts.first
