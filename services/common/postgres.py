"""The embedded server: real PostgreSQL in a folder of its own, with nothing to install and no port to reach it by.

A data folder belongs to the account that the server runs under (root's runs as `nobody`), has mode 0700 and holds
`cluster/` (PostgreSQL's own), `postgres.log` and the Unix socket: whoever may enter it may connect. The server ends
with its launcher, on Linux even when that is killed.
"""

import fcntl
import os
import secrets
import shutil
import signal
import stat
import subprocess
import tempfile
import time
import urllib.parse
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self, TypeAlias

from services.common.postgres_binaries import (
    ENVIRONMENT,
    Account,
    Binaries,
    EmbeddedPostgresError,
    find_binaries,
    make_folder,
    run_tool,
    server_account,
)
from services.common.tied_process import tied_command

__all__ = [
    "DataFolderInUseError",
    "EmbeddedPostgres",
    "EmbeddedPostgresError",
    "default_data_home",
    "temporary_data_folder",
]

_PORT = 5432  # Only a part of the socket's name.
_SOCKET_PATH_BYTES = 103  # Without the closing zero: 107 on Linux, 103 on macOS.
_SETTINGS = {
    "listen_addresses": "",
    "port": str(_PORT),
    "unix_socket_permissions": "0700",
    "max_connections": "300",
    "shared_buffers": "128MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
    "log_error_verbosity": "terse",  # Details quote the values of rows, which may identify a person.
}
_BUILTIN_LOCALE_SINCE = 17

_START_SECONDS = 60.0  # After a crash all that was written since the last checkpoint is replayed.
_FORMER_SERVER_SECONDS = 10.0  # A server whose launcher was killed may still be shutting down.
_FORMER_SERVER_LIVES = ('lock file "postmaster.pid" already exists', "is still in use")  # In PostgreSQL's words.
_RELAUNCH_SECONDS = 0.1
_POLL_SECONDS = 0.005
_STOP_SIGNALS = ((signal.SIGINT, 20.0), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0))  # Fast, immediate, last.

_Process: TypeAlias = "subprocess.Popen[bytes]"


class DataFolderInUseError(EmbeddedPostgresError):
    """Another server lives in the data folder; `pid` is its process, where known."""

    def __init__(self, data_folder: Path) -> None:
        """Say which folder is taken, and by which process."""
        lines = _postmaster_file(data_folder)
        self.pid = int(lines[0]) if lines else None
        who = "a server that is starting" if self.pid is None else f"the server with process id {self.pid}"
        super().__init__(f"The data folder {data_folder} is in use by {who}: stop it, or choose another folder.")


class EmbeddedPostgres:
    """A running server. `start` it, hand out each `url`, `stop` it; as a context manager it stops at the end."""

    def __init__(self, process: _Process, socket_folder: Path, resources: ExitStack) -> None:
        """Take over a server that is ready, and what is to be given back after it; `start` makes these."""
        self._process = process
        self._socket_folder = socket_folder
        self._resources = resources

    @classmethod
    def start(cls, data_folder: Path) -> Self:
        """Start the server in `data_folder`, which is made and filled where it is not yet; return when ready.

        Call it from a thread that lives as long as the server should, best the main one: Linux takes the end of the
        starting thread for the launcher's death. Raises DataFolderInUseError, EmbeddedPostgresError.
        """
        account = server_account()
        data_folder = data_folder.resolve()
        try:
            binaries = find_binaries(account)
            _make_data_folder(data_folder, account)
            with ExitStack() as resources:
                lock = _lock(data_folder)
                resources.callback(os.close, lock)
                _ensure_cluster(data_folder, lock, binaries, account)
                socket_folder = _socket_folder(data_folder, account, resources)
                process = _launch_until_ready(data_folder, socket_folder, binaries, account)
                return cls(process, socket_folder, resources.pop_all())
        except OSError as error:
            raise EmbeddedPostgresError(f"PostgreSQL cannot be started in {data_folder}: {error}.") from error

    @property
    def pid(self) -> int:
        """The process id of the server."""
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether the server still lives, though nobody stopped it."""
        return self._process.poll() is None

    def url(self, database: str = "postgres", role: str = "postgres") -> str:
        """Return where `role` finds `database`: a URL without a password, for whoever may enter the data folder."""
        query = urllib.parse.urlencode({"host": str(self._socket_folder), "port": _PORT})
        return f"postgresql://{urllib.parse.quote(role)}@/{urllib.parse.quote(database)}?{query}"

    def stop(self) -> None:
        """End the server: open connections are cut, what was committed stays. Bounded, and harmless when repeated."""
        _stop(self._process)
        self._resources.close()

    def __enter__(self) -> Self:
        """Enter with the running server."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the server."""
        self.stop()


def default_data_home() -> Path:
    """Return a good parent for data folders that stay, outside root's closed home; it is not made here."""
    if os.geteuid() == 0:
        return Path("/var/lib/libretto")
    state = os.environ.get("XDG_STATE_HOME")
    return (Path(state) if state else Path.home() / ".local/state") / "libretto"


@contextmanager
def temporary_data_folder() -> Iterator[Path]:
    """Make an empty data folder in the temporary folder, deleted at the end (the server must have stopped by then)."""
    folder = _make_private_temporary_folder(server_account())
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def _require_way_to(folder: Path, account: Account) -> None:
    """Refuse a place that root can reach but the server's account cannot: folders are never opened for it."""
    if os.geteuid() != 0:
        return  # The server is the caller, who will be told by the system.
    for parent in reversed(folder.parents):
        if not parent.exists():
            return  # From here on make_folder makes them, for all to enter.
        status = parent.stat()
        if status.st_uid == account.user_id:
            may_enter = stat.S_IXUSR
        else:
            may_enter = stat.S_IXGRP if status.st_gid == account.group_id else stat.S_IXOTH
        if not status.st_mode & may_enter:
            raise EmbeddedPostgresError(
                f"PostgreSQL runs as the account {account.name}, which may not enter {parent} on the way to {folder}: "
                f"choose a place outside of it, for instance below {default_data_home()}."
            )


def _make_data_folder(folder: Path, account: Account) -> None:
    """Make the data folder for the server's account alone, or see that an existing one is so."""
    _require_way_to(folder, account)
    make_folder(folder.parent)
    try:
        folder.mkdir(mode=stat.S_IRWXU)
        os.chown(folder, account.user_id, account.group_id)
    except FileExistsError:
        status = folder.stat()
        mode = stat.S_IMODE(status.st_mode)
        if status.st_uid != account.user_id or mode != stat.S_IRWXU or not stat.S_ISDIR(status.st_mode):
            raise EmbeddedPostgresError(
                f"The data folder {folder} must be a folder of the account {account.name} (user id {account.user_id}) "
                f"with mode 0700, so that nobody else can connect; this one is user id {status.st_uid}'s with mode "
                f"{mode:04o}. Name a folder that does not exist yet."
            ) from None


def _make_private_temporary_folder(account: Account) -> Path:
    """Make a new folder with mode 0700 that belongs to the server's account."""
    _require_way_to(Path(tempfile.gettempdir()).resolve() / "libretto", account)
    folder = Path(tempfile.mkdtemp(prefix="libretto-")).resolve()
    os.chown(folder, account.user_id, account.group_id)
    return folder


def _socket_folder(data_folder: Path, account: Account, resources: ExitStack) -> Path:
    """Choose the data folder, or a short temporary one where that path is too long for a Unix socket."""
    if len(os.fsencode(data_folder / f".s.PGSQL.{_PORT}")) <= _SOCKET_PATH_BYTES:
        return data_folder
    folder = _make_private_temporary_folder(account)
    resources.callback(shutil.rmtree, folder)
    return folder


def _lock(data_folder: Path) -> int:
    """Lock the folder for this launcher until the descriptor is closed, as it is when the launcher is killed."""
    descriptor = os.open(data_folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise DataFolderInUseError(data_folder) from None
    return descriptor


def _ensure_cluster(data_folder: Path, lock: int, binaries: Binaries, account: Account) -> None:
    """See that `cluster/` is there and fits the binaries; a new one gets its name only when it is whole."""
    cluster = data_folder / "cluster"
    if cluster.exists():
        major = (cluster / "PG_VERSION").read_text().strip()
        if major != str(binaries.major):
            raise EmbeddedPostgresError(
                f"The data folder {data_folder} was made by PostgreSQL {major}, but the programs are PostgreSQL "
                f"{binaries.major}: convert it with pg_upgrade, or choose another folder."
            )
        return
    for left_over in data_folder.glob("cluster.partial-*"):  # An initdb whose launcher was killed made it.
        shutil.rmtree(left_over, ignore_errors=True)
    partial = data_folder / f"cluster.partial-{secrets.token_hex(4)}"
    options = ["--username=postgres", "--auth-local=trust", "--auth-host=reject", "--encoding=UTF8", "--locale=C"]
    if binaries.major >= _BUILTIN_LOCALE_SINCE:
        options += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]  # lower() knows more than ASCII.
    run_tool([binaries.program("initdb"), f"--pgdata={partial}", "--no-instructions", *options], account)
    partial.rename(cluster)
    os.fsync(lock)  # Else a power cut could bring back the partial's name, full of orders.


def _launch_until_ready(data_folder: Path, socket_folder: Path, binaries: Binaries, account: Account) -> _Process:
    """Launch the server; again for a while, when one whose launcher was killed is still on its way out."""
    log = data_folder / "postgres.log"
    give_up = time.monotonic() + _FORMER_SERVER_SECONDS
    while True:
        log_start = log.stat().st_size if log.exists() else 0
        process = _launch(data_folder, socket_folder, binaries, account)
        try:
            if _await_ready(process, data_folder):
                return process
        except BaseException:
            _stop(process)
            raise
        said = log.read_bytes()[log_start:].decode(errors="replace").strip() if log.exists() else "(nothing)"
        if not any(words in said for words in _FORMER_SERVER_LIVES):
            raise EmbeddedPostgresError(
                f"PostgreSQL ended at its start (exit code {process.returncode}) and said: {said[-2000:]}"
            )
        if time.monotonic() > give_up:
            raise DataFolderInUseError(data_folder)
        time.sleep(_RELAUNCH_SECONDS)


def _launch(data_folder: Path, socket_folder: Path, binaries: Binaries, account: Account) -> _Process:
    """Start the server, in a session of its own: a Ctrl-C is for the launcher, which stops the server last."""
    quoted_folder = str(socket_folder).replace('"', '""')  # The setting is a list, parted by commas.
    settings = _SETTINGS | {"unix_socket_directories": f'"{quoted_folder}"'}
    options = [f"--{name}={value}" for name, value in settings.items()]
    server = [binaries.program("postgres"), "-D", str(data_folder / "cluster"), *options]
    log = str(data_folder / "postgres.log")
    return subprocess.Popen(
        tied_command(server, signal.SIGINT, log, account.user_id, account.group_id),  # SIGINT: a fast shutdown.
        cwd="/",
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )


def _await_ready(process: _Process, data_folder: Path) -> bool:
    """Wait, with a bound, until the server's lock file calls it ready (as pg_ctl does); False when the server ended."""
    give_up = time.monotonic() + _START_SECONDS
    while time.monotonic() < give_up:
        if process.poll() is not None:
            return False
        match _postmaster_file(data_folder):
            case [pid, _, _, _, _, _, _, state, *_] if pid == str(process.pid) and state.strip() == "ready":
                return True
        time.sleep(_POLL_SECONDS)
    raise EmbeddedPostgresError(
        f"PostgreSQL was not ready after {_START_SECONDS:.0f} s; its log is {data_folder / 'postgres.log'}."
    )


def _postmaster_file(data_folder: Path) -> list[str]:
    """Read the lines of the server's own lock file: its process id first, its state eighth; none without a server."""
    try:
        return (data_folder / "cluster/postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return []


def _stop(process: _Process) -> None:
    """End the server's process, more harshly each time that it does not listen; each wait has its bound."""
    for number, bound_seconds in _STOP_SIGNALS:
        if process.poll() is not None:
            return
        process.send_signal(number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(bound_seconds)
