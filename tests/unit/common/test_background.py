"""Loops beside the calls: they begin after a wait, outlive what fails, and end with their block."""

import asyncio

from structlog.testing import capture_logs

from services.common.background import repeated
from tests.fakes.clock import VirtualClock, in_virtual_time

SECRET = "Ada Lovelace"  # noqa: S105 - what tests look for where it must not be.


class Task:
    """A task that notes when it is run, and may fail or hang."""

    def __init__(self, *, fails_at: int = -1, error: BaseException | None = None, hangs: bool = False) -> None:
        """Fail at one of the runs, or never end one."""
        self.runs: list[float] = []
        self.ended = False
        self._fails_at, self._error, self._hangs = fails_at, error or ValueError(SECRET), hangs

    async def __call__(self) -> None:
        """Note the time."""
        self.runs.append(asyncio.get_running_loop().time())
        if len(self.runs) == self._fails_at:
            raise self._error
        if self._hangs:
            try:
                await asyncio.Event().wait()
            finally:
                self.ended = True


@in_virtual_time
async def test_a_task_is_run_every_so_often_while_its_block_is_open() -> None:
    """The first time after one interval, never again afterwards."""
    task = Task()
    async with repeated("tick", 5.0, task, VirtualClock()) as running:
        assert running.get_name() == "tick"
        await asyncio.sleep(17.0)
    await asyncio.sleep(60.0)
    assert task.runs == [5.0, 10.0, 15.0]
    assert running.cancelled()


@in_virtual_time
async def test_a_task_that_fails_is_logged_and_run_again() -> None:
    """With what it was and not with what it said."""
    task = Task(fails_at=2)
    with capture_logs() as logs:
        async with repeated("tick", 5.0, task, VirtualClock()):
            await asyncio.sleep(22.0)
    assert task.runs == [5.0, 10.0, 15.0, 20.0]
    (line,) = logs
    assert (line["log_level"], line["task"], line["error_type"]) == ("error", "tick", "ValueError")
    assert any("__call__" in frame for frame in line["frames"])
    assert SECRET not in str(line)


@in_virtual_time
async def test_a_loop_outlives_a_cancellation_that_was_not_for_it() -> None:
    """Such as that of a task which its own task awaited; it is logged like any failure."""
    task = Task(fails_at=2, error=asyncio.CancelledError())
    with capture_logs() as logs:
        async with repeated("tick", 5.0, task, VirtualClock()):
            await asyncio.sleep(17.0)
    assert task.runs == [5.0, 10.0, 15.0]
    (line,) = logs
    assert (line["task"], line["error_type"]) == ("tick", "CancelledError")


@in_virtual_time
async def test_a_task_under_way_is_ended_with_its_block() -> None:
    """The block waits until it has cleaned up."""
    task = Task(hangs=True)
    async with repeated("tick", 5.0, task, VirtualClock()):
        await asyncio.sleep(6.0)
        assert task.runs == [5.0]
        assert not task.ended
    assert task.ended
