"""Every reason of the contracts is given by some error of ours, and every error of ours has a reason in a contract."""

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from services.common import errors
from services.common.values import DomainError, ErrorKind

ROOT = Path(__file__).parents[2]
OWNERS = sorted(path.parent.parent.name for path in (ROOT / "protos" / "libretto").glob("*/v1/errors.proto"))
SERVICES = [owner for owner in OWNERS if owner != "common"]
PREFIX = "ERROR_REASON_"
OF_FIELDS = {
    "FIELD_REQUIRED",
    "FIELD_INVALID",
    "FIELD_OUT_OF_RANGE",
    "FIELD_DUPLICATE",
    "CURRENCY_UNKNOWN",
    "PAGE_TOKEN_INVALID",
}
"""The reasons of violations: services.common.fields and pages give them, and no class has them."""
OF_INCIDENTS = {"INTERNAL"}
"""Given by services.common.errors.incident."""
DOCUMENTED = re.compile(r"^\n  // ([A-Z_]+)(?:[:,]| with )(?:.*\n  //)*.*\n  ERROR_REASON_([A-Z_]+) =", re.MULTILINE)
"""In an errors.proto: the code with which a reason's comment begins, and the reason."""
PROMISED_WAIT = re.compile(r"// [A-Z_]+ with `google.rpc.RetryInfo`(?:.*\n  //)*.*\n  ERROR_REASON_([A-Z_]+) =")
NAMED = re.compile(r"\b[A-Z]+(?:_[A-Z]+)+\b")


def module_of(owner: str, name: str) -> ModuleType:
    """Import a generated module."""
    return importlib.import_module(f"libretto.{owner}.v1.{name}")


def reasons(owner: str) -> set[str]:
    """Return the reasons of a contract."""
    return {name.removeprefix(PREFIX) for name, number in module_of(owner, "errors_pb2").ErrorReason.items() if number}


def domain_errors() -> set[type[DomainError]]:
    """Return every class of errors below services."""
    for path in (ROOT / "services").glob("*/*.py"):
        if path.parent.name in OWNERS and path.stem != "__main__" and not path.stem.endswith("_child"):
            importlib.import_module(f"services.{path.parent.name}.{path.stem}")
    return set(descendants(DomainError))


def descendants(kind: type[DomainError]) -> Iterator[type[DomainError]]:
    """Go through the classes below a class, but not those that tests define."""
    for child in kind.__subclasses__():
        if child.__module__.startswith("services."):
            yield child
            yield from descendants(child)


def with_reasons(owner: str) -> dict[str, list[type[DomainError]]]:
    """Return the classes of a service, or of what is common, by the reason that each states itself."""
    found: dict[str, list[type[DomainError]]] = {}
    for kind in domain_errors():
        if kind.service == owner and isinstance(vars(kind).get("reason"), str):
            found.setdefault(vars(kind)["reason"], []).append(kind)
    return found


def rejections() -> set[str]:
    """Return the reasons of orders that are kept as rejected, which one class carries for all."""
    return {reason.value for reason in importlib.import_module("services.checkout.domain").RejectionReason}


def proto_texts(owner: str) -> Iterator[str]:
    """Read the files of a contract."""
    for path in sorted((ROOT / "protos" / "libretto" / owner / "v1").glob("*.proto")):
        yield path.read_text(encoding="utf-8")


def test_there_are_contracts_to_look_at() -> None:
    """A test that walks nothing would prove nothing."""
    assert set(SERVICES) >= {"catalog", "checkout", "inventory", "payment", "pricing"}
    assert len(domain_errors()) > 30


@pytest.mark.parametrize("service", SERVICES)
def test_each_reason_of_a_service_is_given_by_exactly_one_of_its_errors(service: str) -> None:
    """None is unmapped, in either direction, and none has two sentences."""
    given = with_reasons(service)
    expected = reasons(service) - (rejections() if service == "checkout" else set())
    assert set(given) == expected
    assert {reason: kinds for reason, kinds in given.items() if len(kinds) > 1} == {}


def test_an_order_is_rejected_for_reasons_of_the_contract_only() -> None:
    """Each is one of checkout's, and none is given in another way too."""
    assert rejections() < reasons("checkout")
    assert rejections() & set(with_reasons("checkout")) == set()


def test_each_common_reason_is_given() -> None:
    """By a class of its own, by the readers of fields, or by an incident."""
    given = set(with_reasons("common"))
    assert given | OF_FIELDS | OF_INCIDENTS == reasons("common")
    assert given & (OF_FIELDS | OF_INCIDENTS) == set()


def test_the_readers_of_fields_give_all_reasons_of_fields() -> None:
    """Each stands in the text of the two modules."""
    texts = {
        node.value
        for name in ("fields", "pages")
        for node in ast.walk(ast.parse((ROOT / "services" / "common" / f"{name}.py").read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    assert texts & reasons("common") == OF_FIELDS


def test_what_services_refuse_fields_for_is_a_reason_of_fields() -> None:
    """Also where a service's own parser finds something wrong."""
    given = set()
    for path in (ROOT / "services").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "refuse":
                given |= {argument.value for argument in node.args[1:2] if isinstance(argument, ast.Constant)}
    assert given
    assert given <= OF_FIELDS


def test_each_error_names_a_contract_as_its_service() -> None:
    """It is what the ErrorInfo's domain is made of."""
    for kind in domain_errors():
        assert kind.service in OWNERS, kind
        home = kind.__module__.split(".")[1]
        assert kind.service in {home, "common"}, kind


def test_each_kind_of_error_has_one_code() -> None:
    """So no error is without a code."""
    assert set(errors.CODES) == set(ErrorKind)
    assert len(set(errors.CODES.values())) == len(ErrorKind)


@pytest.mark.parametrize("owner", OWNERS)
def test_each_error_has_the_code_that_its_contract_states(owner: str) -> None:
    """The comment of a reason begins with it."""
    text = (ROOT / "protos" / "libretto" / owner / "v1" / "errors.proto").read_text(encoding="utf-8")
    documented = {reason: code for code, reason in DOCUMENTED.findall(text)}
    assert set(documented) == reasons(owner)
    for reason, kinds in with_reasons(owner).items():
        for kind in kinds:
            assert errors.grpc_code(errors.CODES[kind.kind]).name == documented[reason], kind


def test_a_common_error_that_may_pass_says_when_to_repeat() -> None:
    """Where the contract promises RetryInfo."""
    text = (ROOT / "protos" / "libretto" / "common" / "v1" / "errors.proto").read_text(encoding="utf-8")
    promised = set(PROMISED_WAIT.findall(text))
    waits = {reason for reason, (kind,) in with_reasons("common").items() if kind.retry_after_seconds is not None}
    assert promised == waits != set()


@pytest.mark.parametrize("service", SERVICES)
def test_each_reason_of_a_service_stands_at_an_rpc(service: str) -> None:
    """Whoever reads an RPC's comment learns what it refuses, and finds it in an enum."""
    comments = "\n".join(line for text in proto_texts(service) for line in text.splitlines() if line.startswith("  //"))
    named = set(NAMED.findall(" ".join(re.findall(r"Refuses.*?(?=Safe to retry|$)", comments, re.DOTALL))))
    assert reasons(service) <= named
    assert named <= reasons(service) | reasons("common")
