"""Tests of what scripts/check does with the contracts, on copies of them."""

import re
import shutil
from pathlib import Path

import pytest

from scripts.lib import contracts, generate
from scripts.lib.tools import ROOT

PRODUCT = Path("protos", "libretto", "catalog", "v1", "product.proto")


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """Return a copy of the contracts that a test may change."""
    shutil.copytree(ROOT / "protos", tmp_path / "protos")
    shutil.copy(ROOT / "buf.yaml", tmp_path)
    contracts.copy_google_types(tmp_path)
    return tmp_path


@pytest.fixture
def image(workspace: Path) -> Path:
    """Return an image of the contracts as they stand, as if they had just been released."""
    path = workspace / "image.binpb"
    assert contracts.build_image(workspace, path) == ""
    return path


def change(workspace: Path, pattern: str, replacement: str) -> None:
    """Change the first place in the product's contract that matches, and make sure that there is one."""
    path = workspace / PRODUCT
    text, count = re.subn(pattern, replacement, path.read_text(), count=1)
    assert count == 1
    path.write_text(text)


def test_unchanged_contracts_break_nothing(workspace: Path, image: Path) -> None:
    """The comparison of the contracts with their own image finds nothing."""
    assert contracts.breaking_changes(workspace, image) == ""


def test_a_renumbered_field_is_refused(workspace: Path, image: Path) -> None:
    """A field that moves to another number would be misread by every client that knows the old one."""
    change(workspace, r"(string title = )\d+", r"\g<1>4711")

    complaint = contracts.breaking_changes(workspace, image)

    assert str(PRODUCT) in complaint
    assert '"title"' in complaint


def test_a_new_field_breaks_nothing(workspace: Path, image: Path) -> None:
    """What is only added may be released at any time."""
    change(workspace, r"(message Product \{\n)", r"\g<1>  // A note.\n  string note = 4711;\n")

    assert contracts.breaking_changes(workspace, image) == ""


def test_a_message_without_a_comment_is_refused(workspace: Path) -> None:
    """The contracts' lint asks for a comment on everything that a caller sees."""
    with (workspace / PRODUCT).open("a") as contract:
        contract.write("\nmessage Uncommented {}\n")

    assert "Uncommented" in contracts.lint(workspace)


def test_a_badly_formatted_contract_is_refused_and_can_be_mended(workspace: Path) -> None:
    """The format check shows the difference, and formatting in place removes it."""
    change(workspace, r"\n  string title", r"\n      string title")

    assert "string title" in contracts.format_difference(workspace)
    assert contracts.format_in_place(workspace) == ""
    assert contracts.format_difference(workspace) == ""


def test_a_file_of_gen_that_no_contract_calls_for_is_named() -> None:
    """Changed, missing and surplus files of gen/ are all differences; equal ones are not."""
    committed = generate.committed_files()
    equal, changed, surplus, *_ = sorted(committed)
    wanted = {**committed, changed: b"changed", "libretto/missing.py": b""}
    del wanted[surplus]

    assert generate.differences(wanted) == sorted([changed, surplus, "libretto/missing.py"])
    assert equal not in generate.differences(wanted)
