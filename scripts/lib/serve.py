"""Serves the whole shop on fixed ports, with data that stays, until Ctrl-C; a process that dies is started again.

Spans go to files in the data folder, and by OTLP too where OTEL_EXPORTER_OTLP_ENDPOINT is set. Any other setting of a
service, such as LIBRETTO_CHECKOUT_BEFORE_PIVOT_SECONDS, is taken from the environment.
"""

import argparse
import asyncio
import sys
import time
from typing import Final

from scripts.lib import interrupts
from scripts.lib.caller import caller_path
from scripts.lib.console import write_line
from scripts.lib.interrupts import Interrupts
from scripts.lib.launcher import LaunchError, Program
from scripts.lib.shop import Shop, fixed_addresses, open_shop
from scripts.lib.shop_folder import ShopFolder
from services.common.database import DatabaseUnavailableError
from services.common.postgres import EmbeddedPostgresError, default_data_home

_BASE_PORT: Final = 50_050
_HIGHEST_BASE_PORT: Final = 65_000
_FAILURES: Final = (LaunchError, EmbeddedPostgresError, DatabaseUnavailableError, OSError)

_DEATH_LIMIT: Final = 5
_DEATH_WINDOW_SECONDS: Final = 60.0
_FIRST_WAIT_SECONDS: Final = 0.5  # Doubles with each death inside the window.
_WATCH_SECONDS: Final = 0.2


def main() -> int:
    """Parse the arguments, serve, return the exit status."""
    parser = argparse.ArgumentParser(prog="scripts/serve", description=__doc__)
    data_folder = default_data_home() / "shop"
    parser.add_argument(
        "--data-dir",
        type=caller_path,
        default=data_folder,
        metavar="FOLDER",
        help=f"where the data stays, {data_folder} by default; it is made if it is not there",
    )
    parser.add_argument(
        "--port-base",
        type=_base_port,
        default=_BASE_PORT,
        metavar="PORT",
        help=f"the number that the services' ports follow, {_BASE_PORT} by default",
    )
    options = parser.parse_args()
    return interrupts.run(lambda signals: _serve(ShopFolder(options.data_dir), options.port_base, signals))


async def _serve(folder: ShopFolder, base_port: int, signals: Interrupts) -> int:
    """Serve until a signal comes; a failure is told in a sentence."""
    try:
        _say(f"opening the shop in {folder.path} ...")
        async with open_shop(folder, fixed_addresses(base_port)) as shop:
            _show_table(shop)
            await signals.wait(Supervisor(shop).watch())
            _say("closing the shop ...")
    except _FAILURES as error:
        write_line(sys.stderr, f"serve: {error}\nThe logs are in {folder.logs}.")
        return 1
    _say("everything is stopped; the data is there for the next time")
    return 0


class Restarts:
    """How long to wait before a program is started again: longer with each of its deaths, and not for ever."""

    def __init__(self) -> None:
        """Begin without any deaths."""
        self._deaths: dict[str, list[float]] = {}

    def wait_seconds(self, name: str, now: float) -> float | None:
        """Count a death at a time in seconds; None where there were too many within a minute."""
        deaths = [when for when in self._deaths.get(name, []) if when > now - _DEATH_WINDOW_SECONDS]
        self._deaths[name] = [*deaths, now]
        return None if len(deaths) >= _DEATH_LIMIT else float(_FIRST_WAIT_SECONDS * 2 ** len(deaths))


class Supervisor:
    """Watches over the processes of a shop, and starts again those that end."""

    def __init__(self, shop: Shop) -> None:
        """Watch over a shop that is open."""
        self._shop = shop
        self._restarts = Restarts()
        self._due: dict[str, float] = {}
        """When to start which program again."""
        self._starting: dict[str, Program] = {}

    async def watch(self) -> None:
        """Go on until PostgreSQL ends, or a program too often: that is a LaunchError."""
        while True:
            self._shop.require_postgres()
            self._revive_the_dead(time.monotonic())
            await self._greet_the_living()
            await asyncio.sleep(_WATCH_SECONDS)

    def _revive_the_dead(self, now: float) -> None:
        for program in self._shop.launcher.ended():
            if program.name not in self._due:
                wait_seconds = self._restarts.wait_seconds(program.name, now)
                if wait_seconds is None:
                    raise LaunchError(f"It ends again and again: {self._shop.launcher.obituary(program.name)}")
                how = self._shop.launcher.how_it_ended(program.name)
                _say(f"{program.name} {how}; it is started again in {wait_seconds:g} s")
                self._due[program.name] = now + wait_seconds
            elif now >= self._due[program.name]:
                del self._due[program.name]
                self._shop.launcher.start(program)
                self._starting[program.name] = program

    async def _greet_the_living(self) -> None:
        for program in list(self._starting.values()):
            if await program.is_ready():
                del self._starting[program.name]
                _say(f"{program.name} serves again at {self._shop.addresses[program.name]}")


def _show_table(shop: Shop) -> None:
    _say("the shop is open until Ctrl-C:")
    for name, address in shop.addresses.items():
        write_line(sys.stdout, f"    {name:16} {address:18} serving")
    write_line(sys.stdout, f"    {'postgresql':16} {shop.folder.postgres}")
    _say(f"try: .venv/bin/grpcurl -plaintext {shop.addresses['checkout']} list")


def _say(text: str) -> None:
    write_line(sys.stdout, f"serve: {text}")


def _base_port(text: str) -> int:
    port = int(text) if text.isdecimal() else 0
    if not 1 <= port <= _HIGHEST_BASE_PORT:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 to {_HIGHEST_BASE_PORT}")
    return port


if __name__ == "__main__":
    sys.exit(main())
