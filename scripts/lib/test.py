"""Runs the tests with pytest, on two processors unless -n says otherwise, beside one real PostgreSQL server.

All arguments are pytest's.
"""

import argparse
import os
import sys

import pytest

from scripts.lib.tools import CACHE
from services.common.postgres import EmbeddedPostgres, temporary_data_folder


def main() -> int:
    """Run pytest over what the arguments name, everything by default, and return its exit status."""
    parser = argparse.ArgumentParser(
        prog="scripts/test",
        description=__doc__,
        usage="%(prog)s [-h] [pytest's arguments]",
        epilog="For example: scripts/test tests/unit -k money, or: scripts/test -n 0 --pdb.",
        allow_abbrev=False,
    )
    _, arguments = parser.parse_known_args()
    os.environ.setdefault("HYPOTHESIS_STORAGE_DIRECTORY", str(CACHE / "hypothesis"))
    with temporary_data_folder() as folder, EmbeddedPostgres.start(folder) as server:
        os.environ["LIBRETTO_TEST_POSTGRES_URL"] = server.url()
        return int(pytest.main(["-n", "2", *arguments]))


if __name__ == "__main__":
    sys.exit(main())
