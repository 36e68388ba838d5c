"""Checks the whole tree: format, lint, types, imports, contracts, generated code, migrations.

Prints a line for each check as it ends, then all that the failed ones have to say. Needs no network.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass

from scripts.lib import contracts, generate
from scripts.lib.import_rules import broken_import_rules
from scripts.lib.tools import ROOT, run_tool


@dataclass(frozen=True, slots=True)
class Check:
    """A named check; `complaint` does the work and returns what is wrong, an empty text when nothing is."""

    name: str
    complaint: Callable[[], str]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one check had to say, and the seconds that it took."""

    name: str
    complaint: str
    seconds: float


def main() -> int:
    """Parse the arguments, mend if asked to, run all checks, return the exit status."""
    parser = argparse.ArgumentParser(prog="scripts/check", description=__doc__)
    parser.add_argument("--fix", action="store_true", help="first format, mend what lint can mend, and regenerate gen/")
    options = parser.parse_args()
    contracts.copy_google_types(ROOT)
    if options.fix:
        fix()
    return report(run(all_checks()))


def all_checks() -> list[Check]:
    """Return every check, the slowest first so that the others run beside it."""
    return [
        Check("types", lambda: complaint_of("mypy")),
        Check("lint", lambda: complaint_of("ruff", "check", "--quiet")),
        Check("format", lambda: complaint_of("ruff", "format", "--diff", "--quiet")),
        Check("import rules", broken_import_rules),
        Check("generated code", stale_generated_code),
        Check("contracts: lint", lambda: contracts.lint(ROOT)),
        Check("contracts: format", lambda: contracts.format_difference(ROOT)),
        breaking_check(),
        Check("migrations", migration_findings),
    ]


def complaint_of(*command: str) -> str:
    """Run a tool and return what it printed if it failed, else an empty text."""
    succeeded, output = run_tool(*command)
    return "" if succeeded else output or f"{command[0]} failed and printed nothing\n"


def stale_generated_code() -> str:
    """Return the files of gen/ that differ from what the contracts give, and how to mend that."""
    try:
        stale = generate.differences(generate.generated_files())
    except generate.GenerationError as error:
        return str(error)
    return "".join(f"gen/{name} is not what the contracts give; run scripts/generate\n" for name in stale)


def breaking_check() -> Check:
    """Return the comparison with the released contracts; before the first release it only says so."""
    released = ROOT / contracts.RELEASED
    if not released.exists():
        return Check("contracts: breaking changes (nothing is released yet, so nothing to compare with)", str)
    return Check("contracts: breaking changes", lambda: contracts.breaking_changes(ROOT, released))


def migration_findings() -> str:
    """Return what squawk finds in the services' migrations, each of which runs in a transaction of its own."""
    migrations = [str(path.relative_to(ROOT)) for path in sorted(ROOT.glob("services/*/migrations/*.sql"))]
    if not migrations:
        return ""
    command = ("squawk", "--pg-version", "16", "--assume-in-transaction", "--reporter", "gcc")
    # The connection that migrates sets both timeouts; the contracts limit what the integers count.
    settled = ("--exclude", "require-lock-timeout,require-statement-timeout,prefer-bigint-over-int")
    return complaint_of(*command, *settled, *migrations)


def fix() -> None:
    """Format code and contracts, mend what lint can mend, and write gen/ anew; the checks tell what is left."""
    contracts.format_in_place(ROOT)
    run_tool("ruff", "check", "--fix-only", "--quiet")
    run_tool("ruff", "format", "--quiet")
    try:
        generate.write()
    except generate.GenerationError:
        return


def run(checks: list[Check]) -> list[Outcome]:
    """Run the checks, as many at once as there are processors, and print a line for each as it ends."""
    outcomes = []
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        for future in as_completed([pool.submit(timed, check) for check in checks]):
            outcome = future.result()
            verdict = "FAILED" if outcome.complaint else "ok"
            sys.stdout.write(f"{verdict:6} {outcome.seconds:5.1f} s  {outcome.name}\n")
            sys.stdout.flush()
            outcomes.append(outcome)
    return outcomes


def timed(check: Check) -> Outcome:
    """Run one check and measure it."""
    began = time.monotonic()
    complaint = check.complaint()
    return Outcome(check.name, complaint, time.monotonic() - began)


def report(outcomes: list[Outcome]) -> int:
    """Print what the failed checks had to say; return the exit status."""
    failed = [outcome for outcome in outcomes if outcome.complaint]
    for outcome in failed:
        sys.stdout.write(f"\n== {outcome.name}\n{outcome.complaint.rstrip()}\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
