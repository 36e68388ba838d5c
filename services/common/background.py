"""Work that goes on beside the calls: a loop that runs a task again and again until its service stops."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from services.common.errors import incident, is_being_cancelled
from services.common.logs import get_logger
from services.common.values import Clock, DependencyUnavailableError

_log = get_logger(__name__)


@asynccontextmanager
async def repeated(
    name: str, interval_seconds: float, task: Callable[[], Awaitable[object]], clock: Clock
) -> AsyncIterator[asyncio.Task[None]]:
    """Run a task every so many seconds while the block is open; one that fails is logged, and run again next time."""

    async def loop() -> None:
        while True:
            await clock.sleep(interval_seconds)
            try:
                await task()
            except asyncio.CancelledError as error:
                if is_being_cancelled():
                    raise
                incident(error, task=name)  # Something that the task awaited was cancelled, and not this loop.
            except DependencyUnavailableError as error:  # It may pass, and the loop comes round again.
                _log.warning("task put off", task=name, why=error.reason)
            except Exception as error:  # noqa: BLE001 - the top of a background loop: it must outlive what fails in it.
                incident(error, task=name)

    running = asyncio.create_task(loop(), name=name)
    try:
        yield running
    finally:
        running.cancel()
        await asyncio.wait([running])
