"""Starts programs, waits until all are ready, notices one that dies, and stops them in reverse order.

Each has a session of its own, so that a Ctrl-C reaches the launcher alone, and the kernel kills it when the launcher is
gone. What it prints goes to `<name>.log`; what its predecessor printed is kept as `<name>.log.1`.
"""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from scripts.lib.tools import ROOT
from services.common.tied_process import tied_command

_POLL_SECONDS: Final = 0.05
_STOP_POLL_SECONDS: Final = 0.01
_STOP_SECONDS: Final = 30.0
"""A service may take 22: 5 s each for open calls, sagas, the journal and the database's pool, and 2 s for spans."""
_KILL_SECONDS: Final = 5.0
_LOG_LINES: Final = 12
_LOG_TAIL_BYTES: Final = 8_192


class LaunchError(Exception):
    """A program does not run as it should; the message tells a person which one and what it said last."""


@dataclass(frozen=True, slots=True)
class Program:
    """What to run: a Python module, with its settings."""

    name: str
    module: str
    environment: Mapping[str, str] = field(repr=False)
    """What it finds in its environment besides the launcher's own."""
    is_ready: Callable[[], Awaitable[bool]]
    """Asks it, within a second or so, whether it does its work already."""


class Launcher:
    """The processes of some programs, each program once; `launching` makes it and stops them all."""

    def __init__(self, log_folder: Path) -> None:
        """Write logs to a folder that exists."""
        self._log_folder = log_folder
        self._running: dict[str, tuple[Program, subprocess.Popen[bytes]]] = {}

    def start(self, program: Program) -> None:
        """Start a program, or start it again after it ended. Call it from the main thread."""
        log = self.log_of(program.name)
        if log.exists():
            log.replace(log.with_name(log.name + ".1"))
        command = tied_command([sys.executable, "-m", program.module], signal.SIGKILL)
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                env={**os.environ, **program.environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._running[program.name] = (program, process)

    def log_of(self, name: str) -> Path:
        """Return where a program's output goes."""
        return self._log_folder / f"{name}.log"

    async def until_ready(self, limit_seconds: float) -> None:
        """Wait until every program is ready. Raises LaunchError when one ends instead, or is not ready in time."""
        waiting = {name: program for name, (program, _) in self._running.items()}
        try:
            async with asyncio.timeout(limit_seconds):
                while waiting:
                    self.require_all_alive()
                    answers = await asyncio.gather(*(program.is_ready() for program in waiting.values()))
                    ready = [name for name, answer in zip(waiting, answers, strict=True) if answer]
                    for name in ready:
                        del waiting[name]
                    await asyncio.sleep(_POLL_SECONDS)
        except TimeoutError:
            name = next(iter(waiting))
            raise LaunchError(f"{name} was not ready after {limit_seconds:.0f} s. {self._last_words(name)}") from None

    def ended(self) -> list[Program]:
        """Return the programs that have ended, though nobody stopped them."""
        return [program for program, process in self._running.values() if process.poll() is not None]

    def require_all_alive(self) -> None:
        """Raise LaunchError when a program has ended."""
        for program in self.ended():
            raise LaunchError(self.obituary(program.name))

    def obituary(self, name: str) -> str:
        """Tell how a program ended, and what it said last."""
        return f"{name} {self.how_it_ended(name)}. {self._last_words(name)}"

    def how_it_ended(self, name: str) -> str:
        """Tell how a program that has ended did so, such as `was killed by SIGKILL`."""
        return _how_ended(self._running[name][1])

    async def stop(self) -> list[tuple[str, str]]:
        """Stop the programs, the last started first: politely, and by force one that does not listen.

        Returns the name of each, and how it ended, in that order.
        """
        endings = []
        while self._running:
            name, (_, process) = self._running.popitem()
            for number, limit_seconds in ((signal.SIGTERM, _STOP_SECONDS), (signal.SIGKILL, _KILL_SECONDS)):
                process.send_signal(number)
                if await _has_ended_within(process, limit_seconds):
                    break
            endings.append((name, _how_ended(process)))
        return endings

    def _last_words(self, name: str) -> str:
        content = self.log_of(name).read_bytes()[-_LOG_TAIL_BYTES:].decode(errors="replace")
        lines = content.splitlines()[-_LOG_LINES:]
        return "\n".join(["The end of its log:", *(f"    {line}" for line in lines)]) if lines else "Its log is empty."


@asynccontextmanager
async def launching(log_folder: Path) -> AsyncIterator[Launcher]:
    """Make a launcher, and stop at the end whatever it started."""
    launcher = Launcher(log_folder)
    try:
        yield launcher
    finally:
        await launcher.stop()


def _how_ended(process: "subprocess.Popen[bytes]") -> str:
    code = process.returncode
    if code is None:
        return "cannot be killed"  # Stuck in the kernel; it ends when it comes out of there.
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"


async def _has_ended_within(process: "subprocess.Popen[bytes]", limit_seconds: float) -> bool:
    """Wait for the end of a process; False when it is still there after so many seconds."""
    give_up = time.monotonic() + limit_seconds
    while process.poll() is None:
        if time.monotonic() > give_up:
            return False
        await asyncio.sleep(_STOP_POLL_SECONDS)
    return True
