"""Test of the wheel that users of the stubs install."""

import sys
import zipfile
from pathlib import Path

from scripts.lib.generate import committed_files
from scripts.lib.tools import run_tool


def test_the_wheel_holds_the_generated_code_and_nothing_else(tmp_path: Path) -> None:
    """Built without a network: the package libretto with its type marker, and the metadata."""
    succeeded, output = run_tool(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path))
    assert succeeded, output
    (path,) = tmp_path.glob("*.whl")

    with zipfile.ZipFile(path) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}

    assert names == committed_files().keys()
    assert "libretto/py.typed" in names
