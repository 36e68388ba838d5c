"""Measures what placing an order takes: orders a second, waiting times, CPU by process.

Starts the whole shop as processes of its own, has quotes made, then places an order on each by PlaceOrder over gRPC and
waits for CONFIRMED. CPU is counted until all orders are COMPLETED. At the end it compares what was booked where; if
that does not agree there is no result.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiohttp
import grpc

from scripts.lib import interrupts
from scripts.lib.bench.load import BenchError, Customers
from scripts.lib.bench.machine import cpu_seconds, describe_machine
from scripts.lib.bench.report import Report, Run
from scripts.lib.caller import caller_path
from scripts.lib.launcher import LaunchError
from scripts.lib.shop import Shop, free_addresses, open_shop
from scripts.lib.shop_folder import passing_folder
from services.common.database import DatabaseUnavailableError
from services.common.postgres import EmbeddedPostgresError

_MOST_ORDERS: Final = 1_000_000
_LIMITS: Final = """\
What the figures do not show: The load generator runs on the same cores as the shop (its CPU is listed), and so do the
card processor and PostgreSQL. The loop is closed: a customer sends the next order when the last one is answered, so an
overloaded shop is asked less, and waiting times look better than to customers who come as they please. All orders buy
one piece of one product, whose stock is one row: the worst case. The simulated processor answers at once, and brings
each effect to the disk. Spans are made but written nowhere. The databases are new and small. Disk, cores and whatever
else the machine does matter: compare figures of one quiet machine only.
"""
_FAILURES: Final = (
    LaunchError,
    BenchError,
    EmbeddedPostgresError,
    DatabaseUnavailableError,
    grpc.aio.AioRpcError,
    aiohttp.ClientError,
    OSError,
)


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure."""

    concurrency: Sequence[int]
    """How many orders are under way at once, one level after the other."""
    orders: int
    """How many orders a run places."""
    warm_up: int
    """How many are placed before the first run of each level, not measured."""
    repeats: int
    """How many runs each level has."""

    @property
    def all_orders(self) -> int:
        """How many orders are placed in all."""
        return len(self.concurrency) * (self.warm_up + self.repeats * self.orders)


def main() -> int:
    """Parse the arguments, measure, print; return the exit status."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__, epilog=_LIMITS)
    parser.add_argument(
        "--concurrency",
        type=_positive,
        nargs="+",
        default=[1, 16, 64],
        metavar="N",
        help="orders under way at once (default: 1 16 64)",
    )
    parser.add_argument("--orders", type=_positive, default=200, metavar="N", help="orders of a run (default: 200)")
    parser.add_argument(
        "--warm-up", type=_positive, default=50, metavar="N", help="orders before each level's first run (default: 50)"
    )
    parser.add_argument("--repeats", type=_positive, default=3, metavar="N", help="runs of each level (default: 3)")
    parser.add_argument("--json", type=caller_path, metavar="FILE", help="write all figures of all runs to FILE")
    options = parser.parse_args()
    if options.json is not None and not options.json.parent.is_dir():
        parser.error(f"there is no folder {options.json.parent}")
    plan = Plan(list(dict.fromkeys(options.concurrency)), options.orders, options.warm_up, options.repeats)
    return interrupts.run(lambda _signals: _bench(plan, options.json))


async def _bench(plan: Plan, json_file: Path | None) -> int:
    folder = None
    try:
        with passing_folder() as folder:
            _say("opening the shop")
            async with open_shop(folder, free_addresses(), span_files=False) as shop:
                try:
                    report = await _measure(shop, plan)
                except _FAILURES:
                    shop.require_all_alive()  # A process that died explains more than the call that met nobody.
                    raise
        if json_file is not None:
            report.write(json_file)
    except _FAILURES as error:
        sentence = f"{error.code().name}: {error.details()}" if isinstance(error, grpc.aio.AioRpcError) else error
        sys.stderr.write(f"No result: {sentence}\n")
        if folder is not None and folder.path.exists():
            sys.stderr.write(f"The shop's folder is kept for you to look at: {folder.path} (the logs are in logs/).\n")
        return 1
    sys.stdout.write(report.as_text())
    return 0


async def _measure(shop: Shop, plan: Plan) -> Report:
    """Measure level after level, then let the books be compared."""
    machine = await describe_machine(shop)
    customers = Customers(shop)
    await customers.fill_shelves(plan.all_orders)
    runs = []
    for concurrency in plan.concurrency:
        await customers.place(await customers.prepare(plan.warm_up), concurrency)
        await customers.until_completed()
        for number in range(1, plan.repeats + 1):
            run = await _run(shop, customers, concurrency, plan.orders)
            runs.append(run)
            _say(f"{concurrency} at once, run {number} of {plan.repeats}: {plan.orders} orders in {run.seconds:.1f} s")
    books = await customers.read_books()
    books.require_agreement()
    return Report(machine, runs, books)


async def _run(shop: Shop, customers: Customers, concurrency: int, orders: int) -> Run:
    requests = await customers.prepare(orders)
    cpu_before = cpu_seconds(shop)
    began = time.perf_counter()
    latencies_ms = await customers.place(requests, concurrency)
    seconds = time.perf_counter() - began
    await customers.until_completed()
    cpu_after = cpu_seconds(shop)
    return Run(concurrency, seconds, latencies_ms, {name: cpu_after[name] - cpu_before[name] for name in cpu_after})


def _positive(text: str) -> int:
    """Read a number of orders: at most as many pieces as may come in at once. Raises ArgumentTypeError."""
    if not text.isdecimal() or not 1 <= int(text) <= _MOST_ORDERS:
        raise argparse.ArgumentTypeError(f"{text} is no number from 1 to {_MOST_ORDERS}")
    return int(text)


def _say(progress: str) -> None:
    sys.stderr.write(f"bench: {progress}\n")


if __name__ == "__main__":
    sys.exit(main())
