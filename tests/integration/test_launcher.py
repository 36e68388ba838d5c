"""The launcher with small programs: what is ready, what died, and what has to be killed."""

from pathlib import Path

import pytest

from scripts.lib import launcher as launcher_module
from scripts.lib.launcher import LaunchError, Program, launching
from services.checkout import journal, runner
from services.common import database, tracing
from services.common.settings import ServiceSettings

WAIT_SECONDS = 20.0
OBEDIENT = "import os, pathlib, signal; pathlib.Path(os.environ['READY']).touch(); signal.pause()"
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + OBEDIENT
DYING = "print('I cannot go on'); raise SystemExit(3)"


def _program(name: str, code: str, folder: Path) -> Program:
    """Make a program of a module that is written for it; it is ready when it has made its file."""
    (folder / f"{name}_program.py").write_text(code)
    made = folder / f"{name}.ready"

    async def is_ready() -> bool:
        return made.exists()

    return Program(name, f"{name}_program", {"PYTHONPATH": str(folder), "READY": str(made)}, is_ready)


async def test_programs_are_ready_together_and_stopped_the_last_one_first(tmp_path: Path) -> None:
    """None was missing while they ran."""
    async with launching(tmp_path) as launcher:
        for name in ("one", "two"):
            launcher.start(_program(name, OBEDIENT, tmp_path))
        await launcher.until_ready(WAIT_SECONDS)
        assert launcher.ended() == []
        assert await launcher.stop() == [("two", "was killed by SIGTERM"), ("one", "was killed by SIGTERM")]


async def test_a_program_that_dies_at_its_start_is_told_with_its_last_words(tmp_path: Path) -> None:
    """And nobody waits for it until the limit."""
    async with launching(tmp_path) as launcher:
        launcher.start(_program("one", OBEDIENT, tmp_path))
        launcher.start(_program("two", DYING, tmp_path))
        with pytest.raises(
            LaunchError, match=r"^two ended with exit code 3\. The end of its log:\n    I cannot go on$"
        ):
            await launcher.until_ready(WAIT_SECONDS)


async def test_a_program_that_is_never_ready_is_told(tmp_path: Path) -> None:
    """After the limit, and no later."""
    async with launching(tmp_path) as launcher:
        launcher.start(_program("one", "import signal; signal.pause()", tmp_path))
        with pytest.raises(LaunchError, match=r"^one was not ready after 0 s\. Its log is empty\.$"):
            await launcher.until_ready(0.2)


async def test_a_program_that_does_not_stop_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was asked politely first, and had its time."""
    monkeypatch.setattr(launcher_module, "_STOP_SECONDS", 0.2)
    async with launching(tmp_path) as launcher:
        launcher.start(_program("one", STUBBORN, tmp_path))
        await launcher.until_ready(WAIT_SECONDS)
        assert await launcher.stop() == [("one", "was killed by SIGKILL")]


def test_a_service_that_stops_as_slowly_as_it_may_is_not_killed() -> None:
    """Checkout has the most to end: calls, sagas, journal, pool and spans, each within a bound of its own."""
    settings = ServiceSettings(listen="", database_url="", fingerprint_key="")
    bounds_seconds = (
        (settings.drain_ms + settings.grace_ms) / 1000,
        runner._STOP_SECONDS,  # noqa: SLF001 - these four are nobody else's business.
        journal._LAST_SECONDS,  # noqa: SLF001
        database._CLOSE_SECONDS,  # noqa: SLF001
        tracing._SHUT_DOWN_SECONDS,  # noqa: SLF001
    )
    assert sum(bounds_seconds) < launcher_module._STOP_SECONDS  # noqa: SLF001


async def test_a_program_that_is_started_again_leaves_its_former_log(tmp_path: Path) -> None:
    """What it said when it died can still be read."""
    async with launching(tmp_path) as launcher:
        dying = _program("one", DYING, tmp_path)
        launcher.start(dying)
        with pytest.raises(LaunchError):
            await launcher.until_ready(WAIT_SECONDS)
        assert launcher.ended() == [dying]
        launcher.start(_program("one", OBEDIENT, tmp_path))
        await launcher.until_ready(WAIT_SECONDS)
        assert launcher.log_of("one").read_text() == ""
        assert launcher.log_of("one").with_name("one.log.1").read_text() == "I cannot go on\n"
