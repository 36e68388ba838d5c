"""A script of the repository as a process, with all that it starts, so that a test can see whether anything is left."""

import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from scripts.lib.tools import ROOT

END_SECONDS = 30.0
_MARK = "LIBRETTO_TEST_MARK"  # In the environment of every process of ours that a script starts.


class Script:
    """A script that runs. It is started below a temporary folder of its own, which PostgreSQL's account may enter."""

    def __init__(self, verb: str, *arguments: str, temporary: Path) -> None:
        """Start `scripts/<verb>`; set-up is done already where tests run, so its module is started directly."""
        self._mark = str(uuid4())
        self.process = subprocess.Popen(
            [sys.executable, "-m", f"scripts.lib.{verb}", *arguments],
            cwd=ROOT,
            env={**os.environ, _MARK: self._mark, "TMPDIR": str(temporary), "OLDPWD": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.output = ""

    def read_until(self, words: str) -> None:
        """Read the output up to a line that has these words; the test's own time limit bounds the wait."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.output += line
            if words in line:
                return
        raise AssertionError(f"it ended without saying {words!r}:\n{self.output}")

    def end_with(self, number: signal.Signals) -> int:
        """Send a signal and see all that it started end; return its exit status, negative if that killed it."""
        self.process.send_signal(signal.SIGSTOP)  # So that nothing new is started while we look.
        os.waitid(os.P_PID, self.process.pid, os.WSTOPPED)
        ends = [os.pidfd_open(pid) for pid in _descendants(self.process.pid)]
        self.process.send_signal(number)
        self.process.send_signal(signal.SIGCONT)
        try:
            self.output += self.process.communicate(timeout=END_SECONDS)[0]
            give_up = time.monotonic() + END_SECONDS
            for end in ends:
                readable, _, _ = select.select([end], [], [], max(0.0, give_up - time.monotonic()))
                assert readable, "a process that it started is still there"
        finally:
            for end in ends:
                os.close(end)
        assert self._left_over() == []
        return self.process.returncode

    def kill(self) -> None:
        """End it however it is; what it started is killed with it."""
        self.process.kill()
        self.process.communicate(timeout=END_SECONDS)

    def _left_over(self) -> list[str]:
        """Return the command lines of living processes that have our mark."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                marked = f"{_MARK}={self._mark}".encode() in (folder / "environ").read_bytes()
                command = (folder / "cmdline").read_bytes()
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue  # It has ended meanwhile, or is another user's.
            if marked and command:
                found.append(command.replace(b"\0", b" ").decode())
        return found


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Make a folder that PostgreSQL's account may enter, also when tests run as root; removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix="libretto-test-"))
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def _descendants(ancestor: int) -> list[int]:
    """Return the processes that a process started, and those that they started."""
    parents: dict[int, int] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        parents[int(folder.name)] = int(fields[1])
    found = [ancestor]
    for pid in found:  # It grows while we go along it.
        found += [child for child, parent in parents.items() if parent == pid]
    return found[1:]
