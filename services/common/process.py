"""A service as a process: settings from the environment, one event loop, a graceful stop on SIGTERM or Ctrl-C."""

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import uvloop

from services.common import logs, tracing
from services.common.errors import incident
from services.common.migrations import MigrationError
from services.common.server import Running
from services.common.settings import ServiceSettings, SettingsError, load
from services.common.tracing import Telemetry
from services.common.values import DependencyUnavailableError

S = TypeVar("S", bound=ServiceSettings)
_log = logs.get_logger(__name__)


def main(service: str, kind: type[S], serve: Callable[[S, Telemetry], Awaitable[Running]]) -> None:
    """Run a service until it is told to stop.

    A wrong setting, an address that is taken, a database that does not answer or whose schema is not ours end it with a
    sentence.
    """
    try:
        settings = load(kind, service)
        uvloop.run(_run(service, settings, serve))
    except (SettingsError, OSError, DependencyUnavailableError, MigrationError) as error:
        sys.exit(f"{service} cannot start: {error}")


async def _run(service: str, settings: S, serve: Callable[[S, Telemetry], Awaitable[Running]]) -> None:
    logs.configure(service, settings.log_level)
    telemetry = tracing.from_environment(service, settings.span_file)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_log_unhandled)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    running = await serve(settings, telemetry)
    _log.info("serving", address=running.address)
    await stop.wait()
    _log.info("stopping", open_calls=running.stats.open_calls)
    await running.stop()
    await asyncio.to_thread(telemetry.shut_down)
    _log.info("stopped")


def _log_unhandled(_loop: asyncio.AbstractEventLoop, found: dict[str, Any]) -> None:
    """Log what nobody awaited or caught. The loop's own words would show its text, and the arguments of a callback."""
    error: BaseException | None = found.get("exception")
    if error is not None:
        incident(error, found_by="event loop")
    else:
        _log.error("event loop", message=found["message"])
