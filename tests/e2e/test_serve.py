"""The shop as it is served: data that stays, one server a folder, and processes that are started again."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import pytest
from libretto.inventory.v1 import inventory_service_pb2, inventory_service_pb2_grpc

from scripts.lib.shop import fixed_addresses
from scripts.lib.tools import ROOT
from tests.e2e.script import END_SECONDS, Script, temporary_folder

if TYPE_CHECKING:
    from libretto.inventory.v1.inventory_service_pb2_grpc import InventoryServiceAsyncStub

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="only Linux has /proc and parent-death signals"),
    pytest.mark.timeout(120),  # The whole shop starts twice, beside other tests.
]

BASE_PORT = 19_000
CALL_SECONDS = 5.0
SKU = "BATON-OAK"


async def test_stock_stays_over_a_restart_and_a_service_that_was_killed_comes_again() -> None:
    """The folder is refused to a second server while the first one runs; Ctrl-C and SIGTERM both end it well."""
    with temporary_folder() as temporary:
        arguments = ("--data-dir", str(temporary / "data"), "--port-base", str(BASE_PORT))
        first = Script("serve", *arguments, temporary=temporary)
        try:
            first.read_until("the shop is open")
            await _adjust_stock(7)
            assert "is in use by the server with process id" in _refused_start(arguments)
            os.kill(_pid_of("inventory", first), signal.SIGKILL)
            first.read_until("inventory was killed by SIGKILL; it is started again in 0.5 s")
            first.read_until("inventory serves again")
            await _adjust_stock(1)
            assert first.end_with(signal.SIGINT) == 0
        finally:
            first.kill()
        second = Script("serve", *arguments, temporary=temporary)
        try:
            second.read_until("the shop is open")
            assert await _adjust_stock(2) == 10
            assert second.end_with(signal.SIGTERM) == 0
        finally:
            second.kill()


async def _adjust_stock(change: int) -> int:
    """Take pieces in, and return how many there are then."""
    async with grpc.aio.insecure_channel(fixed_addresses(BASE_PORT)["inventory"]) as channel:
        inventory: InventoryServiceAsyncStub = inventory_service_pb2_grpc.InventoryServiceStub(channel)
        request = inventory_service_pb2.AdjustStockRequest(request_id=f"in-{change}", sku=SKU, change=change)
        return (await inventory.AdjustStock(request, timeout=CALL_SECONDS)).stock_level.available


def _refused_start(arguments: tuple[str, ...]) -> str:
    """Start a server that must not run, and return what it says."""
    done = subprocess.run(
        [sys.executable, "-m", "scripts.lib.serve", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=END_SECONDS,
    )
    assert done.returncode == 1
    return done.stderr


def _pid_of(service: str, script: Script) -> int:
    """Find the process of a service that a script started."""
    children = Path(f"/proc/{script.process.pid}/task/{script.process.pid}/children").read_text().split()
    (found,) = (
        pid for pid in children if Path(f"/proc/{pid}/cmdline").read_text().split("\0")[-2] == f"services.{service}"
    )
    return int(found)
