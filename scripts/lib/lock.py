"""Writes requirements.lock (the wheel's needs and the extra `server`) and requirements-dev.lock (those and `dev`).

Both hold names, versions and hashes, and no addresses; they serve every Python from the lowest supported one on.
"""

import argparse
import sys
from typing import Final

from scripts.lib.tools import ROOT, run_tool

COMPILE: Final = (
    *("uv", "pip", "compile", "--quiet", "--universal", "--python-version", "3.11", "--generate-hashes"),
    *("--no-emit-index-url", "--no-annotate", "--custom-compile-command", "./scripts/lock"),
)
SERVER: Final = ("pyproject.toml", "--extra", "server", "--output-file", "requirements.lock")
# Constrained by the first file, so that development runs what production runs.
DEVELOPMENT: Final = (
    *("pyproject.toml", "--extra", "server", "--group", "dev", "--constraints", "requirements.lock"),
    *("--output-file", "requirements-dev.lock"),
)


def main() -> int:
    """Parse the arguments, write both files, return the exit status."""
    parser = argparse.ArgumentParser(prog="scripts/lock", description=__doc__)
    parser.add_argument(
        "--upgrade", action="store_true", help="take the newest versions instead of keeping those locked"
    )
    options = parser.parse_args()
    upgrade = ("--upgrade",) if options.upgrade else ()
    for inputs in (SERVER, DEVELOPMENT):
        succeeded, output = run_tool(*COMPILE, *upgrade, *inputs)
        sys.stdout.write(output)
        if not succeeded:
            return 1
    addresses = [name for name in (SERVER[-1], DEVELOPMENT[-1]) if "://" in (ROOT / name).read_text()]
    for name in addresses:
        sys.stdout.write(f"{name} holds an address: some requirement is a URL; lock files name packages only\n")
    return 1 if addresses else 0


if __name__ == "__main__":
    sys.exit(main())
