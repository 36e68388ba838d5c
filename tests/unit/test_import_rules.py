"""Tests of the import rules: the contracts in pyproject.toml on a small tree, and what a domain may import."""

import shutil
from pathlib import Path

import pytest

from scripts.lib.import_rules import broken_import_rules, foreign_imports
from scripts.lib.tools import ROOT

MODULES = (
    *("catalog/service", "catalog/domain", "pricing/service", "common/errors", "common/values"),
    *("outside/carrier/api", "outside/card_processor/api"),
)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Return a small tree of services in which no rule is broken, with the contracts of this repository."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for name in MODULES:
        module = tmp_path / "services" / f"{name}.py"
        module.parent.mkdir(parents=True, exist_ok=True)
        module.touch()
        for package in module.relative_to(tmp_path).parents[:-1]:
            (tmp_path / package / "__init__.py").touch()
    add(tmp_path, "catalog/service", "import libretto.catalog.v1.product_pb2\nfrom services.common import errors\n")
    add(tmp_path, "pricing/service", "from services.common.errors import NotFoundError\n")
    return tmp_path


def add(tree: Path, module: str, text: str) -> None:
    """Add lines to a module of the tree."""
    with (tree / "services" / f"{module}.py").open("a") as source:
        source.write(text)


def test_services_may_use_the_contracts_and_what_they_share(tree: Path) -> None:
    """The tree as the fixture makes it breaks no rule."""
    assert broken_import_rules(tree) == ""


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("pricing/service", "from services.catalog import domain"),
        ("pricing/service", "import services.outside.carrier.api"),
        ("pricing/service", "import scripts.lib.check"),
        ("pricing/service", "from tests.fakes import clock"),
        ("common/errors", "from services.catalog.domain import Product"),
        ("outside/carrier/api", "from services.common import errors"),
        ("outside/carrier/api", "from libretto.common.v1 import errors_pb2"),
        ("catalog/domain", "from services.catalog import service"),
    ],
)
def test_an_import_across_the_walls_is_refused(tree: Path, module: str, line: str) -> None:
    """Services know each other, the parties outside and our tools by contract or not at all."""
    add(tree, module, f"{line}\n")

    assert broken_import_rules(tree) != ""


@pytest.mark.parametrize(
    "line",
    [
        "import dataclasses",
        "from collections.abc import Sequence",
        "from services.common.values import Money",
        "from services.common import values",
        "import services.common.values",
    ],
)
def test_a_domain_may_import_the_standard_library_and_the_shared_values(line: str) -> None:
    """These are all that a domain needs."""
    assert foreign_imports(line) == []


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("import grpc", "grpc"),
        ("import json, asyncpg", "asyncpg"),
        ("from google.protobuf import message", "google.protobuf"),
        ("from libretto.catalog.v1 import product_pb2", "libretto.catalog.v1"),
        ("from services.common import errors", "services.common"),
        ("from services.common import errors, values", "services.common"),
        ("from . import store", "."),
        ("from .store import Store", ".store"),
        ("if True:\n    import services.common.database", "services.common.database"),
    ],
)
def test_a_domain_may_import_nothing_else(line: str, name: str) -> None:
    """Anything of gRPC, SQL, the contracts or the service's other rooms is named with its line."""
    (finding,) = foreign_imports(line)

    assert finding.endswith(f": a domain may not import {name}")
