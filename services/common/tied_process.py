"""Becomes another program whose life is tied to its launcher's: when that is gone, the kernel sends a signal.

`tied_command` says how to run a program so. This file then runs as a program itself, with nothing but the standard
library: Linux forgets the parent-death signal at a change of user, and code of ours between fork and exec
(`preexec_fn`) would be unsafe beside gRPC's threads. Elsewhere than on Linux nothing ties the two.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Sequence

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def tied_command(
    program: Sequence[str], at_launchers_end: signal.Signals, log: str = "", user_id: int = -1, group_id: int = -1
) -> list[str]:
    """Return the command that runs `program`, a path and its arguments, tied to this process.

    The program gets the signal when the thread that started it ends: start it from the main one. Its output is appended
    to `log` where that is named. Root can have it run under another account: a user and a group, and no other groups.
    """
    numbers = (os.getpid(), int(at_launchers_end), user_id, group_id)
    return [sys.executable, "-I", "-S", __file__, *map(str, numbers), log, *program]


def _become(user_id: int, group_id: int) -> None:
    """Become an unprivileged account for good: real, effective and saved ids, and no other groups."""
    os.setgroups([])
    os.setgid(group_id)
    os.setuid(user_id)


def _die_with(launcher_pid: int, number: int) -> None:
    """Have the kernel send a signal when the launcher is gone, whatever killed it."""
    if sys.platform == "linux" and ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number) != 0:
        sys.exit("cannot tie a program's life to its launcher's: prctl was refused")
    if os.getppid() != launcher_pid:  # It died before the line above: nobody would send the signal any more.
        sys.exit("the launcher ended before its program started")


def _write_output_to(log: str) -> None:
    """Append what the program says to its log; opened without root's rights, in a folder that is not root's."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)


def main(arguments: Sequence[str]) -> None:
    """Run `launcher_pid signal user_id group_id log program argument…`; returns only by an exception."""
    launcher_pid, number, user_id, group_id, log, program, *rest = arguments
    if os.geteuid() == 0 and int(user_id) > 0:
        _become(int(user_id), int(group_id))
    if log:
        _write_output_to(log)
    _die_with(int(launcher_pid), int(number))
    os.execv(program, [program, *rest])  # noqa: S606 - no shell is what is wanted; the launcher chose the program.


if __name__ == "__main__":
    main(sys.argv[1:])
