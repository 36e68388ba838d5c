"""Who calls whom: what each service's clients are written for, and what the shop's processes are told, are the same."""

import ast

import pytest

from scripts.lib.shop import SERVICES, Service
from scripts.lib.tools import ROOT


def _called_by(name: str) -> set[str]:
    """Return the services whose contracts a service's clients.py imports."""
    path = ROOT / "services" / name / "clients.py"
    if not path.exists():
        return set()
    modules: list[str] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            modules += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules.append(node.module)
    return {module.split(".")[1] for module in modules if module.startswith("libretto.")} - {"common"}


@pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.name)
def test_a_service_calls_those_whose_addresses_it_is_told(service: Service) -> None:
    """No others, and all of them."""
    assert _called_by(service.name) == set(service.calls)


def test_no_service_with_clients_is_missing_in_the_shop() -> None:
    """Else nobody would compare them."""
    with_clients = {path.parent.name for path in (ROOT / "services").glob("*/clients.py")}
    assert {"pricing", "checkout"} <= with_clients <= {service.name for service in SERVICES}
