"""How the scripts call other programs: from the repository's root, with the tools of .venv first on PATH."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
CACHE: Final = ROOT / ".cache"
TOOL_TIMEOUT_SECONDS: Final = 300.0


def run_tool(*command: str, cwd: Path = ROOT, timeout_seconds: float = TOOL_TIMEOUT_SECONDS) -> tuple[bool, str]:
    """Run a tool without input; return whether it succeeded, and what it printed on both channels."""
    try:
        done = subprocess.run(
            command,
            cwd=cwd,
            env=tool_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=timeout_seconds,
        )
    except subprocess.TimeoutExpired as late:
        return False, f"{late}\n"
    return done.returncode == 0, done.stdout


def tool_environment() -> dict[str, str]:
    """Return the caller's environment with this interpreter's tools first, and buf's own files inside the clone."""
    tools = Path(sys.executable).parent
    path = f"{tools}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    # A home that cannot be read, or another project's settings in it, must not matter.
    buf_folders = {"BUF_CACHE_DIR": str(CACHE / "buf"), "BUF_CONFIG_DIR": str(CACHE / "buf")}
    return {**os.environ, "PATH": path, **buf_folders}
