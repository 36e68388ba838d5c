"""Runs the card processor until SIGTERM or SIGINT; prints its address as one line once it answers.

Settings: LIBRETTO_CARD_PROCESSOR_LISTEN (``host:port``, port 0 for any, or ``unix:/path``), …_LEDGER (a file),
…_API_KEY and …_SLOW_SECONDS (2 if not set).
"""

import asyncio
import logging
import os
import re
import signal
import sqlite3
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from services.outside.card_processor.api import Api
from services.outside.card_processor.ledger import Ledger

PREFIX = "LIBRETTO_CARD_PROCESSOR_"
STOP_SECONDS = 3.0
NUMBER = re.compile(r"[0-9]{1,3}(\.[0-9]{1,3})?")
ADDRESS = re.compile(r"unix:.+|.+:[0-9]{1,5}")


def _quotes_no_request(record: logging.LogRecord) -> bool:
    """Keep from the log what aiohttp says of malformed HTTP: it quotes the request, and so may quote the key."""
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


http_logger = logging.getLogger(f"{__package__}.http")
http_logger.addFilter(_quotes_no_request)


@dataclass(frozen=True, slots=True)
class Settings:
    """What the processor needs to start, as told at the top."""

    listen: str
    ledger: Path
    api_key: str = field(repr=False)
    slow_seconds: float = 2.0

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "Settings":
        """Read the settings; a ValueError names the variable that is missing or wrong."""
        listen, ledger, api_key = (environment.get(PREFIX + name, "") for name in ("LISTEN", "LEDGER", "API_KEY"))
        if not (listen and ledger and api_key):
            raise ValueError(f"{PREFIX}LISTEN, {PREFIX}LEDGER and {PREFIX}API_KEY must be set")
        if not ADDRESS.fullmatch(listen):
            raise ValueError(f"{PREFIX}LISTEN must be host:port or unix:/path")
        slow = environment.get(PREFIX + "SLOW_SECONDS", "2")
        if not NUMBER.fullmatch(slow):
            raise ValueError(f"{PREFIX}SLOW_SECONDS must be a number of seconds below 1000, like 2 or 0.25")
        return cls(listen, Path(ledger), api_key, float(slow))


async def start(settings: Settings) -> web.AppRunner:
    """Serve until the runner's `cleanup()`, which takes STOP_SECONDS at most.

    Raises OSError for an address that cannot be bound, sqlite3.Error for a ledger that cannot be opened.
    """
    ledger = Ledger(settings.ledger)

    async def close_ledger(_: web.Application) -> None:
        ledger.close()

    application = Api(ledger, settings.api_key, settings.slow_seconds).application()
    application.on_cleanup.append(close_ledger)
    # aiohttp waits the time-out twice: for the handlers to answer, then for them to end.
    runner = web.AppRunner(application, access_log=None, logger=http_logger, shutdown_timeout=STOP_SECONDS / 2)
    await runner.setup()
    host, _, port = settings.listen.rpartition(":")
    if settings.listen.startswith("unix:"):
        await web.UnixSite(runner, settings.listen.removeprefix("unix:")).start()
    else:
        await web.TCPSite(runner, host, int(port)).start()
    return runner


async def run(settings: Settings) -> None:
    """Serve until a signal says stop; raises what `start` raises."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    runner = await start(settings)
    bound = runner.addresses[0]
    sys.stdout.write(f"unix:{bound}\n" if isinstance(bound, str) else f"{bound[0]}:{bound[1]}\n")
    sys.stdout.flush()
    await stop.wait()
    await runner.cleanup()


if __name__ == "__main__":
    try:
        asyncio.run(run(Settings.from_environment(os.environ)))
    except (ValueError, OSError, sqlite3.Error) as error:
        sys.exit(f"card processor: {error}")
