"""What the bench has to say: the figures of each run, and their medians and ranges, as text and as JSON."""

import json
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from scripts.lib.bench.load import Books
from scripts.lib.bench.machine import LOAD_GENERATOR, Machine

_SPEED: Final = ("orders/s", "p50 ms", "p95 ms", "p99 ms")
_WHOLE_SHOP: Final = "the whole shop"
_NAME_WIDTH: Final = 18
_COLUMN_WIDTH: Final = 25


@dataclass(frozen=True, slots=True)
class Run:
    """One measurement."""

    concurrency: int
    """How many orders were under way at once."""
    seconds: float
    """From the first request to the last answer."""
    latencies_ms: Sequence[float]
    """How long each order's answer took."""
    cpu_seconds: Mapping[str, float]
    """CPU time by process, from the first request until all orders were COMPLETED."""

    def figures(self) -> dict[str, float]:
        """Return speed, latencies, and CPU ms an order: of each process, and of all but the load generator."""
        latencies_ms = sorted(self.latencies_ms)
        orders = len(latencies_ms)
        speed = (orders / self.seconds, *(percentile(latencies_ms, percent) for percent in (50, 95, 99)))
        cpu_ms = {name: 1000 * seconds / orders for name, seconds in self.cpu_seconds.items()}
        whole_shop = sum(ms for name, ms in cpu_ms.items() if name != LOAD_GENERATOR)
        return {**dict(zip(_SPEED, speed, strict=True)), _WHOLE_SHOP: whole_shop, **cpu_ms}


@dataclass(frozen=True, slots=True)
class Report:
    """All that was measured."""

    machine: Machine
    runs: Sequence[Run]
    books: Books

    def as_text(self) -> str:
        """Return a table: a row a figure, a column a concurrency, with the median and the range of its runs."""
        return "\n".join(self._lines()) + "\n"

    def write(self, file: Path) -> None:
        """Write all figures of all runs, as JSON. Raises OSError."""
        data = {
            "machine": asdict(self.machine),
            "runs": [
                {"concurrency": run.concurrency, "orders": len(run.latencies_ms), "figures": run.figures()}
                for run in self.runs
            ],
            "medians": [
                {"concurrency": concurrency, "figures": {name: statistics.median(values[name]) for name in values}}
                for concurrency, values in self._levels().items()
            ],
            "books": asdict(self.books),
        }
        file.write_text(json.dumps(data, indent=2) + "\n")

    def _lines(self) -> Iterator[str]:
        machine, levels = self.machine, self._levels()
        yield (
            f"{machine.cores} cores (load average {machine.load_average:.1f} before the first order), "
            f"Python {machine.python}, PostgreSQL {machine.postgresql}, "
            f"fdatasync of 8 KiB {machine.fdatasync_us:.0f} µs"
        )
        orders, repeats = len(self.runs[0].latencies_ms), len(self.runs) // len(levels)
        yield f"{repeats} x {orders} orders at each concurrency: the median of the runs (lowest-highest)"
        yield ""
        yield _row("concurrency", [str(concurrency) for concurrency in levels])
        names = list(next(iter(levels.values())))
        for name in names:
            if name == _WHOLE_SHOP:
                yield "CPU ms an order"
            indent, digits = ("", 1) if name in _SPEED else ("  ", 2)
            yield _row(indent + name, [_median_and_range(values[name], digits) for values in levels.values()])
        yield ""
        yield (
            f"Booked: {self.books.confirmed} orders confirmed, {self.books.completed} completed, "
            f"{self.books.captured} captured by the card processor, {self.books.sold} pieces sold."
        )

    def _levels(self) -> dict[int, dict[str, list[float]]]:
        """Put the runs' figures together by concurrency."""
        levels: dict[int, dict[str, list[float]]] = {}
        for run in self.runs:
            values = levels.setdefault(run.concurrency, {})
            for name, value in run.figures().items():
                values.setdefault(name, []).append(value)
        return levels


def percentile(ordered: Sequence[float], percent: int) -> float:
    """Return the smallest value that so many per cent of all do not exceed (the nearest rank); they are in order."""
    return ordered[math.ceil(len(ordered) * percent / 100) - 1]


def _row(name: str, cells: Sequence[str]) -> str:
    return f"{name:{_NAME_WIDTH}}" + "".join(f"{cell:>{_COLUMN_WIDTH}}" for cell in cells)


def _median_and_range(values: Sequence[float], digits: int) -> str:
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"
