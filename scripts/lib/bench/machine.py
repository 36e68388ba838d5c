"""What the bench reads off the machine: CPU time by process, the cost of a write to the disk, versions (Linux only)."""

import os
import platform
import statistics
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from scripts.lib.shop import Shop
from services.common.database import single_connection

LOAD_GENERATOR: Final = "load generator"
_PROC: Final = Path("/proc")
_TICKS_PER_SECOND: Final = os.sysconf("SC_CLK_TCK")
_BLOCK: Final = b"\0" * 8_192  # PostgreSQL writes its log in blocks of this size.
_FILE_BLOCKS: Final = 128
_SYNCS: Final = 256


@dataclass(frozen=True, slots=True)
class Machine:
    """Where a measurement was made, and beside what."""

    cores: int
    load_average: float
    """Processes that wanted to run in the minute before, on average: others' work disturbs the figures."""
    fdatasync_us: float
    """How long it takes to overwrite a block of 8 KiB and bring it to the disk, in microseconds: the median."""
    python: str
    postgresql: str


@dataclass(frozen=True, slots=True)
class _Process:
    parent: int
    seconds: float
    """User and system time, its own and that of the children that it had and waited for."""


async def describe_machine(shop: Shop) -> Machine:
    """Look at the machine on which a shop runs."""
    async with single_connection(shop.postgres.url(), "bench") as connection:
        version = str(await connection.fetchval("SHOW server_version"))
    return Machine(
        cores=len(os.sched_getaffinity(0)),
        load_average=os.getloadavg()[0],
        fdatasync_us=_fdatasync_us(shop.folder.path),
        python=platform.python_version(),
        postgresql=version,
    )


def cpu_seconds(shop: Shop) -> Mapping[str, float]:
    """Return the CPU time that each process of a shop, with its children, and this one have used so far.

    The kernel counts in ticks of 10 ms: what is measured should take a second of CPU or more.
    """
    processes = {int(path.name): process for path in _PROC.glob("[0-9]*") if (process := _read(path)) is not None}
    used = {
        _program(pid): _tree_seconds(pid, processes)
        for pid, process in processes.items()
        if process.parent == os.getpid() and pid != shop.postgres.pid
    }
    return {**used, "postgresql": _tree_seconds(shop.postgres.pid, processes), LOAD_GENERATOR: time.process_time()}


def _tree_seconds(root: int, processes: Mapping[int, _Process]) -> float:
    below = (pid for pid, process in processes.items() if process.parent == root)
    return processes[root].seconds + sum(_tree_seconds(pid, processes) for pid in below)


def _read(path: Path) -> _Process | None:
    """Read a process's line of figures (see proc_pid_stat(5)); None when it has just ended."""
    try:
        line = (path / "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # After the name, which stands in brackets and may hold anything: state, parent, …; the four times are 14 to 17.
    fields = line.rpartition(")")[2].split()
    return _Process(int(fields[1]), sum(map(int, fields[11:15])) / _TICKS_PER_SECOND)


def _program(pid: int) -> str:
    """Name a Python process by the module that it runs: `checkout` for `python -m services.checkout`."""
    arguments = (_PROC / str(pid) / "cmdline").read_text().rstrip("\0").split("\0")
    return arguments[-1].rpartition(".")[2]


def _fdatasync_us(folder: Path) -> float:
    """Overwrite a file block by block, as PostgreSQL does with its log, and measure each way to the disk."""
    times = []
    with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
        file.write(_BLOCK * _FILE_BLOCKS)
        os.fsync(file.fileno())
        for number in range(_SYNCS):
            began = time.perf_counter()
            os.pwrite(file.fileno(), _BLOCK, number % _FILE_BLOCKS * len(_BLOCK))
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - began)
    return 1e6 * statistics.median(times)
