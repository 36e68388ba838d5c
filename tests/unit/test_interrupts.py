"""Ctrl-C and its kin, as an end that cleans up."""

import signal
import subprocess
import sys

import pytest

from scripts.lib.tools import ROOT

WORK = """
import asyncio, signal, sys
signal.signal(signal.{ignored}, signal.SIG_IGN)
from scripts.lib import interrupts

async def work(signals):
    try:
        print("ready", flush=True)
        await asyncio.sleep({seconds})
    finally:
        print("cleaned up", flush=True)
    return 0

sys.exit(interrupts.run(work))
"""


def ended_by(number: signal.Signals, ignored: str, seconds: float) -> tuple[int, str]:
    """Send a signal to work that takes so many seconds; return its exit status and what it printed."""
    command = [sys.executable, "-c", WORK.format(ignored=ignored, seconds=seconds)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    first = process.stdout.readline()
    process.send_signal(number)
    rest, _ = process.communicate(timeout=20)
    return process.returncode, first + rest


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=str)
def test_a_signal_ends_the_work_which_cleans_up(number: signal.Signals) -> None:
    """The exit status says which one it was, as a shell's would."""
    assert ended_by(number, "SIGUSR1", 30) == (128 + number, "ready\ncleaned up\n")


def test_an_interrupt_ends_work_that_was_begun_beside_a_script() -> None:
    """A shell lets such work ignore interrupts, without anybody meaning it."""
    assert ended_by(signal.SIGINT, "SIGINT", 30) == (130, "ready\ncleaned up\n")


def test_a_hang_up_that_is_ignored_stays_so() -> None:
    """As `nohup` means it: the work goes on to its end."""
    assert ended_by(signal.SIGHUP, "SIGHUP", 0.2) == (0, "ready\ncleaned up\n")
