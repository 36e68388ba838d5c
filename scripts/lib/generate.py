"""Writes gen/ anew from protos/: messages, gRPC stubs and their types. What no contract calls for is removed."""

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Final

from scripts.lib.contracts import buf, copy_google_types, replace_if_different
from scripts.lib.tools import ROOT

GEN: Final = ROOT / "gen"


class GenerationError(Exception):
    """The contracts cannot be turned into code; the message is the generator's."""


def main() -> int:
    """Parse the arguments (there are none but --help), write gen/ and say what changed."""
    argparse.ArgumentParser(prog="scripts/generate", description=__doc__).parse_args()
    try:
        changed = write()
    except GenerationError as error:
        sys.stderr.write(str(error))
        return 1
    sys.stdout.write(f"gen/: {len(changed)} files changed\n")
    return 0


def write() -> list[str]:
    """Make gen/ equal to what the contracts give; return the names of the files that changed."""
    wanted = generated_files()
    changed = differences(wanted)
    for name in changed:
        if name in wanted:
            replace_if_different(GEN / name, wanted[name])
        else:
            (GEN / name).unlink()
    return changed


def differences(wanted: dict[str, bytes]) -> list[str]:
    """Return the names of files that are missing from gen/, differ there, or should not be there."""
    present = committed_files()
    return sorted(name for name in wanted.keys() | present.keys() if wanted.get(name) != present.get(name))


def committed_files() -> dict[str, bytes]:
    """Return the content of each file below gen/ by its name there, bytecode left out."""
    paths = (path for path in GEN.rglob("*") if path.is_file() and path.suffix != ".pyc")
    return {str(path.relative_to(GEN)): path.read_bytes() for path in paths}


def generated_files() -> dict[str, bytes]:
    """Return the content of each file that gen/ must hold, by its name there."""
    with tempfile.TemporaryDirectory() as name:
        out = Path(name)
        copy_google_types(ROOT)
        complaint = buf(ROOT, "generate", "--output", str(out))
        if complaint:
            raise GenerationError(complaint)
        contents = {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}
    packages = {str(parent) for file in contents for parent in Path(file).parents} - {"."}
    for package in packages:
        docstring = f'"""Generated from protos/{package}; see scripts/generate."""\n'
        contents[f"{package}/__init__.py"] = docstring.encode()
    # Tells type checkers that the installed package is typed (PEP 561).
    contents["libretto/py.typed"] = b""
    return contents


if __name__ == "__main__":
    sys.exit(main())
