"""Paths as the person who called a script means them: the scripts themselves go to the repository's root first."""

import os
from pathlib import Path


def caller_folder() -> Path:
    """Return the folder that the script was called in: a shell's `cd` leaves it in OLDPWD."""
    return Path(os.environ.get("OLDPWD") or Path.cwd()).resolve()


def caller_path(text: str) -> Path:
    """Read a path from the command line."""
    return (caller_folder() / text).resolve()
