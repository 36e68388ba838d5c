"""What is done with the protobuf contracts of a workspace (a folder with buf.yaml and protos/): check, compare, build.

Every check returns what is wrong as text, empty when nothing is. No function needs a network.
"""

import threading
from importlib.resources import files
from pathlib import Path
from typing import Final

from scripts.lib.tools import run_tool

PROTOS: Final = "protos"
# The image of the contracts as last released; only scripts/release-contracts writes it.
RELEASED: Final = Path(PROTOS, "released.binpb")
GOOGLE_COPY: Final = Path(".cache", "googleapis")
GOOGLE_FOLDERS: Final = ("google/api", "google/rpc", "google/type")


def copy_google_types(workspace: Path) -> None:
    """Put Google's common .proto files, from the installed package, where buf.yaml has its second module."""
    for folder in GOOGLE_FOLDERS:
        target = workspace / GOOGLE_COPY / folder
        target.mkdir(parents=True, exist_ok=True)
        for source in files(folder.replace("/", ".")).iterdir():
            if source.name.endswith(".proto"):
                replace_if_different(target / source.name, source.read_bytes())


def replace_if_different(path: Path, content: bytes) -> None:
    """Give a file this content in one step, and leave it untouched when it has it: two runs at once are safe."""
    if path.is_file() and path.read_bytes() == content:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{threading.get_native_id()}")
    draft.write_bytes(content)
    draft.replace(path)


def lint(workspace: Path) -> str:
    """Return what buf's rules find in the contracts."""
    return buf(workspace, "lint", PROTOS)


def format_difference(workspace: Path) -> str:
    """Return the difference that formatting the contracts would make."""
    return buf(workspace, "format", PROTOS, "--diff", "--exit-code")


def format_in_place(workspace: Path) -> str:
    """Format the contracts; return what buf says when it cannot."""
    return buf(workspace, "format", PROTOS, "--write")


def breaking_changes(workspace: Path, released: Path) -> str:
    """Return the changes since the image `released` that would break a client or stored data."""
    return buf(workspace, "breaking", PROTOS, "--against", str(released), "--exclude-imports")


def build_image(workspace: Path, image: Path) -> str:
    """Write the contracts, with what they import and without comments, as an image; return what went wrong."""
    return buf(workspace, "build", PROTOS, "--exclude-source-info", "--output", str(image))


def buf(workspace: Path, *arguments: str) -> str:
    """Run buf in a workspace that has Google's types; return what it prints when it fails, else an empty text."""
    succeeded, output = run_tool("buf", *arguments, cwd=workspace)
    return "" if succeeded else output or f"buf {arguments[0]} failed and printed nothing\n"
