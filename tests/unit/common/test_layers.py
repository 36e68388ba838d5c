"""What the layers know of a method: its name and the deadline that its contract gives by default."""

import importlib
from pathlib import Path

import pytest
from libretto.common.v1 import options_pb2

from services.common.layers import Method, method_of

ROOT = Path(__file__).parents[3]
SERVICES = sorted(path.parent.parent.name for path in (ROOT / "protos" / "libretto").glob("*/v1/*_service.proto"))


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (
            "/libretto.pricing.v1.PricingService/CreateQuote",
            Method("libretto.pricing.v1.PricingService/CreateQuote", 3.0),
        ),
        ("/libretto.pricing.v1.PricingService/GetQuote", Method("libretto.pricing.v1.PricingService/GetQuote", 1.0)),
        ("/grpc.health.v1.Health/Check", Method("grpc.health.v1.Health/Check", 5.0)),
    ],
)
def test_a_method_is_looked_up_by_its_path(path: str, expected: Method) -> None:
    """What is not Libretto's states no deadline, and still gets one."""
    importlib.import_module("libretto.pricing.v1.pricing_service_pb2")
    importlib.import_module("grpc_health.v1.health_pb2")
    assert method_of(path) == expected


@pytest.mark.parametrize("service", SERVICES)
def test_every_method_of_a_contract_states_its_default_deadline(service: str) -> None:
    """Between a second and half a minute: nothing of ours waits for ever."""
    module = importlib.import_module(f"libretto.{service}.v1.{service}_service_pb2")
    methods = [method for found in module.DESCRIPTOR.services_by_name.values() for method in found.methods]
    assert methods
    for method in methods:
        assert method.GetOptions().HasExtension(options_pb2.default_deadline), method.full_name
        assert (
            1.0 <= method_of(f"/{method.containing_service.full_name}/{method.name}").default_deadline_seconds <= 30.0
        )


def test_an_unknown_method_is_a_fault() -> None:
    """The server looks up only what it serves."""
    with pytest.raises(KeyError):
        method_of("/libretto.nothing.v1.NothingService/DoNothing")
