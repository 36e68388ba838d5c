"""Tests of the set-up step and of the files that it relies on: lock files, scripts, the bounds in pyproject.toml."""

import os
import re
import shutil
import stat
import subprocess
import tomllib
from pathlib import Path

import pytest

from scripts.lib import generate, setup
from scripts.lib.tools import ROOT, run_tool

LOCK_FILES = ("requirements.lock", "requirements-dev.lock")
PYTHONS = ("python3.11", "python3.12", "python3.13", "python3")
VERBS = sorted(path for path in (ROOT / "scripts").iterdir() if path.is_file() and path.suffix != ".py")


def source_set_up(folder: Path, tools: Path) -> subprocess.CompletedProcess[str]:
    """Source setup.sh in a folder where every Python on PATH is broken and would be noticed."""
    tools.mkdir()
    for name in PYTHONS:
        (tools / name).write_text("#!/bin/sh\necho broken >&2\nexit 1\n")
        (tools / name).chmod(0o755)
    environment = {**os.environ, "PATH": f"{tools}{os.pathsep}{os.defpath}"}
    command = ["sh", "-euc", ". scripts/lib/setup.sh"]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", LOCK_FILES)
def test_a_lock_file_holds_versions_and_hashes_but_no_addresses(name: str) -> None:
    """Every package is pinned, every pin has hashes, and no line names a host."""
    text = (ROOT / name).read_text()
    pins = re.findall(r"^[a-z].*$", text, re.MULTILINE)

    assert pins
    assert all(re.match(r"[a-z0-9.-]+==\S+ (; .* )?\\$", pin) for pin in pins)
    assert all(line.startswith(("#", "    --hash=sha256:")) or line in pins for line in text.splitlines())
    assert "://" not in text


def test_production_and_development_run_the_same_versions() -> None:
    """What requirements.lock pins is pinned alike in requirements-dev.lock."""
    production, development = ((ROOT / name).read_text().splitlines() for name in LOCK_FILES)

    assert {line for line in production if "==" in line} <= set(development)


def test_the_wheel_asks_for_runtimes_that_its_generated_code_accepts() -> None:
    """The lower bounds of grpcio and protobuf are the versions that the generated code names at import."""
    needs = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    code = b"".join(generate.committed_files().values()).decode()
    (grpcio,) = set(re.findall(r"^GRPC_GENERATED_VERSION = '(.*)'$", code, re.MULTILINE))
    (protobuf,) = set(re.findall(r"^# Protobuf Python Version: (.*)$", code, re.MULTILINE))

    assert f"grpcio>={grpcio}" in needs
    assert any(need.startswith(f"protobuf>={protobuf},") for need in needs)


@pytest.mark.parametrize("path", VERBS, ids=lambda path: path.name)
def test_a_script_is_a_few_lines_of_shell_that_anyone_may_start(path: Path) -> None:
    """Logic belongs into typed Python; the shell only goes to the root, sets up and starts it."""
    lines = path.read_text().splitlines()

    assert len(lines) <= 10
    assert lines[0] == "#!/bin/sh"
    assert {"set -eu", ". scripts/lib/setup.sh"} <= set(lines)
    assert path.stat().st_mode & stat.S_IXOTH


@pytest.mark.parametrize("path", VERBS, ids=lambda path: path.name)
def test_a_script_explains_itself(path: Path) -> None:
    """Every command answers --help with its name and what it is for."""
    succeeded, output = run_tool(str(path), "--help")

    assert succeeded, output
    assert output.startswith(f"usage: scripts/{path.name} ")


def test_set_up_does_nothing_when_there_is_nothing_to_do(tmp_path: Path) -> None:
    """With a complete .venv no Python is started and nothing is said."""
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "python").symlink_to("/bin/sh")
    (tmp_path / "scripts" / "lib").mkdir(parents=True)
    for name in ("requirements-dev.lock", "scripts/lib/setup.sh", "scripts/lib/setup.py"):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / ".venv" / "stamp").write_bytes(setup.wanted_stamp())

    done = source_set_up(tmp_path, tmp_path / "tools")

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_set_up_without_a_usable_python_says_what_to_install(tmp_path: Path) -> None:
    """Names on PATH that do not run, such as a version manager's shims, are passed over."""
    (tmp_path / "scripts" / "lib").mkdir(parents=True)
    shutil.copy(ROOT / "scripts" / "lib" / "setup.sh", tmp_path / "scripts" / "lib")
    (tmp_path / "requirements-dev.lock").touch()

    done = source_set_up(tmp_path, tmp_path / "tools")

    assert done.returncode == 1
    assert done.stderr.startswith("set-up: no Python of version 3.11 or later")


def test_set_up_takes_the_version_of_uv_from_the_lock_file() -> None:
    """The pin comes with its hashes, so that what is fetched first is checked like all that follows."""
    version, pin = setup.locked_uv()

    assert re.fullmatch(r"\d+\.\d+\.\d+", version)
    assert pin.startswith(f"uv=={version} ")
    assert pin.count("--hash=sha256:") > 1
    assert pin.count("==") == 1


def test_a_second_set_up_waits_for_the_first_and_not_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While one holds the lock another waits up to a limit, then says what is in the way."""
    monkeypatch.setattr(setup, "CACHE", tmp_path)
    monkeypatch.setattr(setup, "LOCK_WAIT_SECONDS", 0.0)

    with setup.sole_setup(), pytest.raises(setup.SetupError, match=r"setup\.lock"), setup.sole_setup():
        pass
