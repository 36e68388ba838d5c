"""Writes protos/released.binpb, the image of the contracts that scripts/check compares later changes with.

Run it when a version is released, and commit the image. It refuses contracts that break the ones released before.
"""

import argparse
import sys

from scripts.lib import contracts
from scripts.lib.tools import ROOT


def main() -> int:
    """Parse the arguments (there are none but --help), write the image, return the exit status."""
    argparse.ArgumentParser(prog="scripts/release-contracts", description=__doc__).parse_args()
    contracts.copy_google_types(ROOT)
    released = ROOT / contracts.RELEASED
    complaint = contracts.breaking_changes(ROOT, released) if released.exists() else ""
    complaint = complaint or contracts.build_image(ROOT, released)
    sys.stdout.write(complaint or f"{contracts.RELEASED} holds the contracts as they stand; commit it\n")
    return 1 if complaint else 0


if __name__ == "__main__":
    sys.exit(main())
