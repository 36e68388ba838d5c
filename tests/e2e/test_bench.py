"""The bench as its users run it, on a tiny plan."""

import asyncio
import json
import re
import sys
from pathlib import Path

import pytest

from scripts.lib.bench.load import BenchError, Books
from scripts.lib.bench.report import percentile
from scripts.lib.tools import ROOT

PROCESSES = {"catalog", "pricing", "inventory", "payment", "checkout", "card_processor", "postgresql", "load generator"}


async def bench(*arguments: str) -> tuple[int, str, str]:
    """Run the bench to its end; return its exit status, and what it printed on both channels."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "scripts.lib.bench", *arguments),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    stdout, stderr = await process.communicate()
    return process.returncode or 0, stdout.decode(), stderr.decode()


async def test_a_tiny_bench_measures_each_level_and_proves_what_was_booked(tmp_path: Path) -> None:
    """The table and the JSON hold every figure of every run, and every party counts the same orders."""
    file = tmp_path / "bench.json"
    plan = ("--concurrency", "1", "4", "--orders", "8", "--warm-up", "2", "--repeats", "2")
    status, stdout, stderr = await bench(*plan, "--json", str(file))
    assert status == 0, stderr

    report = json.loads(file.read_text())
    assert [(run["concurrency"], run["orders"]) for run in report["runs"]] == [(1, 8), (1, 8), (4, 8), (4, 8)]
    placed = 2 * (2 + 2 * 8)
    assert report["books"] == dict.fromkeys(("confirmed", "completed", "captured", "sold"), placed)
    for run in report["runs"]:
        figures = run["figures"]
        assert 0 < figures["p50 ms"] <= figures["p95 ms"] <= figures["p99 ms"]
        assert figures["orders/s"] <= run["concurrency"] * 1000 * run["orders"] / figures["p50 ms"]
        assert figures.keys() > PROCESSES
        assert figures["the whole shop"] > figures["checkout"] > 0
    assert report["machine"]["fdatasync_us"] > 0

    (medians,) = re.findall(r"^p50 ms +([0-9.]+) .*?([0-9.]+) \(\S+\)$", stdout, re.MULTILINE)
    assert [float(median) for median in medians] == [
        round(level["figures"]["p50 ms"], 1) for level in report["medians"]
    ]


async def test_a_plan_that_makes_no_sense_is_refused_before_anything_starts() -> None:
    """No orders, or none at once, cannot be measured."""
    for arguments in (("--orders", "0"), ("--concurrency", "-1"), ("--json", "/there/is/no/such/folder.json")):
        status, _, stderr = await bench(*arguments)
        assert status == 2
        assert "usage: scripts/bench" in stderr


def test_books_that_do_not_agree_are_no_result() -> None:
    """One capture too few, or one piece too many, and nothing is reported."""
    Books(confirmed=3, completed=3, captured=3, sold=3).require_agreement()
    for books in (Books(3, 3, 2, 3), Books(3, 3, 3, 4), Books(3, 2, 3, 3)):
        with pytest.raises(BenchError, match="do not agree"):
            books.require_agreement()


def test_a_percentile_is_the_smallest_value_that_enough_others_do_not_exceed() -> None:
    """By the nearest rank, so that it is always a value that was measured."""
    values = [float(value) for value in range(1, 201)]
    assert [percentile(values, percent) for percent in (50, 95, 99)] == [100, 190, 198]
    assert percentile([7.0], 99) == 7.0
