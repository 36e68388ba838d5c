"""Starts the whole shop on free addresses, tells one order's story with grpcurl, and stops it again.

Takes about ten seconds, and needs no network and no address that must be free. Leaves nothing behind, unless it fails:
then its folder stays, with the logs, and the last line says where.
"""

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import aiohttp
import grpc

from scripts.lib import interrupts
from scripts.lib.caller import caller_folder, caller_path
from scripts.lib.console import write_line
from scripts.lib.demo.grpcurl import Grpcurl, GrpcurlError, find_grpcurl
from scripts.lib.demo.narrator import Narrator
from scripts.lib.demo.story import DemoError, Story
from scripts.lib.demo.transcript import Transcript
from scripts.lib.interrupts import Interrupts
from scripts.lib.launcher import LaunchError
from scripts.lib.shop import Shop, free_addresses, open_shop
from scripts.lib.shop_folder import ShopFolder, passing_folder
from services.common.database import DatabaseUnavailableError
from services.common.postgres import EmbeddedPostgresError

if TYPE_CHECKING:
    from io import TextIOWrapper

_FAILURES: Final = (
    LaunchError,
    DemoError,
    GrpcurlError,
    EmbeddedPostgresError,
    DatabaseUnavailableError,
    grpc.aio.AioRpcError,
    aiohttp.ClientError,
    OSError,
)


def main() -> int:
    """Parse the arguments, tell the story, return the exit status."""
    parser = argparse.ArgumentParser(prog="scripts/demo", description=__doc__)
    parser.add_argument("--transcript", type=caller_path, metavar="FILE", help="write all of it to FILE, as JSON")
    parser.add_argument(
        "--keep", action="store_true", help="leave everything running until Ctrl-C, to repeat the lines by hand"
    )
    options = parser.parse_args()
    if options.transcript is not None and not options.transcript.parent.is_dir():
        parser.error(f"there is no folder {options.transcript.parent} to write the transcript to")
    stdout: TextIOWrapper = sys.stdout  # type: ignore[assignment]  # whatever it writes to
    stdout.reconfigure(errors="replace")  # A terminal without Unicode shows question marks instead of an exception.
    demo = Demo(Narrator(stdout), options.transcript, keep=options.keep)
    return interrupts.run(demo.run)


class Demo:
    """The demo from the first line to the last."""

    def __init__(self, narrator: Narrator, transcript_file: Path | None, *, keep: bool) -> None:
        """Tell it to a narrator, and keep the shop open afterwards if asked to."""
        self._narrator = narrator
        self._transcript_file = transcript_file
        self._keep = keep
        self._began = time.monotonic()

    async def run(self, signals: Interrupts) -> int:
        """Run it and return the exit status; a failure is told in a sentence."""
        folder: ShopFolder | None = None
        try:
            grpcurl = find_grpcurl(caller_folder())
            with passing_folder() as folder:
                await self._run_in(folder, grpcurl, signals)
        except _FAILURES as error:
            sentence = f"{error.code().name}: {error.details()}" if isinstance(error, grpc.aio.AioRpcError) else error
            write_line(sys.stderr, f"\nThe demo failed: {sentence}")
            if folder is not None:
                kept = f"Its folder is kept for you to look at: {folder.path} (the logs are in logs/)."
                write_line(sys.stderr, kept)
            return 1
        return 0

    async def _run_in(self, folder: ShopFolder, grpcurl: Grpcurl, signals: Interrupts) -> None:
        self._narrator.text("Libretto: an order is paid for exactly once and never lost. Opening the shop ...")
        async with open_shop(folder, free_addresses()) as shop:
            self._narrator.text(f"PostgreSQL, five services and a card processor are ready after {self._seconds()}.")
            transcript = Transcript(dict(shop.addresses))
            try:
                await Story(shop, grpcurl, self._narrator, transcript).tell()
            except _FAILURES:
                shop.require_all_alive()  # A process that died explains more than the call that met nobody.
                raise
            if self._transcript_file is not None:
                transcript.write(self._transcript_file)
            self._tell_what_next()
            if self._keep:
                await self._hold_open(shop, signals)
        self._narrator.text(f"The shop is closed, after {self._seconds()} in all.")

    def _tell_what_next(self) -> None:
        self._narrator.heading(
            "What to try next",
            "Read services/checkout/saga.py, where the whole process stands in one table, and protos/, the contracts.",
        )
        self._narrator.gap()
        self._narrator.row(
            "scripts/demo --keep                  leaves the shop open, so that you can paste the lines above"
        )
        self._narrator.row("scripts/demo --transcript demo.json  writes all of this as data")
        self._narrator.row("scripts/serve                        serves the shop on fixed ports, with data that stays")
        self._narrator.gap()

    async def _hold_open(self, shop: Shop, signals: Interrupts) -> None:
        self._narrator.text(
            "The shop stays open until Ctrl-C: every line above can be pasted into another terminal, in this folder. "
            f"Logs and span files are in {shop.folder.path}."
        )
        await signals.wait(shop.until_one_ends())
        self._narrator.gap()

    def _seconds(self) -> str:
        return f"{time.monotonic() - self._began:.1f} s"


if __name__ == "__main__":
    sys.exit(main())
