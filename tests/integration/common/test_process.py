"""A service as a process: it begins with a log line, ends on a signal with 0, and gives a sentence where it cannot."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
from libretto.inventory.v1 import inventory_service_pb2 as pb
from libretto.inventory.v1 import inventory_service_pb2_grpc

from services.common.database import drop_database, ensure_database
from tests.integration.common.host import hosted
from tests.rpc import new_key, new_sku

ROOT = Path(__file__).parents[3]
BOUND_SECONDS = 30.0
PREFIX = "LIBRETTO_INVENTORY_"
SECRET = "key-that-must-not-be-shown"  # noqa: S105 - what tests look for where it must not be.

INVENTORY = ("-m", "services.inventory")
CARELESS = """
import asyncio, gc
from services.common.process import main
from services.common.settings import ServiceSettings

def fail(text):
    raise ValueError(text)

async def fail_later(text):
    fail(text)

async def serve(settings, telemetry):
    asyncio.get_running_loop().call_soon(fail, settings.fingerprint_key)
    forgotten = asyncio.create_task(fail_later(settings.fingerprint_key))
    await asyncio.wait([forgotten])
    del forgotten
    gc.collect()
    raise OSError("enough")

main("inventory", ServiceSettings, serve)
"""
"""A service of which a callback and a task fail, and nobody looks."""

Settings = dict[str, str]


@pytest_asyncio.fixture(scope="module", loop_scope="session", name="settings")
async def _settings(postgres_url: str) -> AsyncIterator[Settings]:
    """Settings with which inventory starts, on a database of its own."""
    name = f"process_{new_key().removeprefix('test-')}"
    url = await ensure_database(postgres_url, name)
    yield {"listen": "127.0.0.1:0", "database_url": url, "fingerprint_key": SECRET}
    await drop_database(postgres_url, name)


@contextmanager
def started(settings: Settings, program: Sequence[str] = INVENTORY) -> Iterator["subprocess.Popen[str]"]:
    """Start inventory with these settings and nothing else in its environment; it is gone after the block."""
    process = subprocess.Popen(
        [sys.executable, *program],
        cwd=ROOT,
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": f"{ROOT}:{ROOT / 'gen'}",
            **{f"{PREFIX}{name.upper()}": value for name, value in settings.items()},
        },
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=BOUND_SECONDS)


def next_event(process: "subprocess.Popen[str]") -> dict[str, Any]:
    """Read the next log line; the test's own time limit is the bound."""
    assert process.stderr is not None
    line = process.stderr.readline()
    assert line.startswith("{"), line
    event: dict[str, Any] = json.loads(line)
    return event


async def ended(settings: Settings, *program: str) -> tuple[int, str]:
    """Run inventory, or another program, until it ends by itself; return its exit code and what it said."""
    with started(settings, program or INVENTORY) as process:
        _, said = await asyncio.to_thread(process.communicate, timeout=BOUND_SECONDS)
        return process.returncode, said


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_service_serves_until_it_is_told_to_stop(settings: Settings, number: signal.Signals) -> None:
    """It says where it listens, answers, stops on the signal, and exits with 0."""
    with started(settings) as process:
        serving = await asyncio.to_thread(next_event, process)
        assert (serving["event"], serving["service"], serving["level"]) == ("serving", "inventory", "info")
        async with grpc.aio.insecure_channel(serving["address"]) as channel:
            stub = inventory_service_pb2_grpc.InventoryServiceStub(channel)
            request = pb.AdjustStockRequest(request_id=new_key(), sku=new_sku(), change=3)
            assert (await stub.AdjustStock(request, timeout=10)).stock_level.available == 3
        process.send_signal(number)
        assert (await asyncio.to_thread(next_event, process))["event"] == "stopping"
        assert (await asyncio.to_thread(next_event, process))["event"] == "stopped"
        _, rest = await asyncio.to_thread(process.communicate, timeout=BOUND_SECONDS)
        assert (process.returncode, rest) == (0, "")


async def test_wrong_settings_end_it_with_a_sentence_each() -> None:
    """All of them at once, and no traceback."""
    code, said = await ended({"listen": "127.0.0.1:0", "fingerprint_key": SECRET, "log_level": "LOUD", "poolsize": "4"})
    assert code == 1
    assert said.splitlines() == [
        f"inventory cannot start: {PREFIX}DATABASE_URL must be set",
        f"{PREFIX}LOG_LEVEL: takes one of DEBUG, INFO, WARNING, ERROR",
        f"{PREFIX}POOLSIZE is no setting",
    ]


async def test_a_taken_address_ends_it_with_a_sentence(settings: Settings) -> None:
    """With the address, and without the secrets that it was started with."""
    async with hosted(listen="127.0.0.1:0") as host:
        code, said = await ended(settings | {"listen": host.running.address})
        assert code == 1
        last = said.splitlines()[-1]
        assert last == (
            f"inventory cannot start: cannot listen on {host.running.address}: is something else listening there?"
        )
        assert "Traceback" not in said
        assert SECRET not in said


async def test_a_database_that_does_not_answer_ends_it_with_a_sentence(settings: Settings) -> None:
    """Whoever supervises it may start it again."""
    async with hosted(listen="127.0.0.1:0") as host:
        free_address = host.running.address
    code, said = await ended(settings | {"database_url": f"postgresql://inventory@{free_address}/inventory"})
    assert code == 1
    (line,) = said.splitlines()
    assert line.startswith("inventory cannot start: The database is unavailable")


async def test_what_nobody_catches_is_logged_without_its_text() -> None:
    """Neither what the exception said nor the arguments of what failed, which the loop itself would print."""
    settings = {"listen": "127.0.0.1:0", "database_url": "", "fingerprint_key": SECRET}
    code, said = await ended(settings, "-c", CARELESS)
    *lines, last = said.splitlines()
    assert (code, last) == (1, "inventory cannot start: enough")
    assert [(event["event"], event["error_type"]) for event in map(json.loads, lines)] == [
        ("incident", "ValueError")
    ] * 2
    assert SECRET not in said
