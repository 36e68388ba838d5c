"""Every RPC of every contract, found by its descriptors, and how to call it with a message or with bytes."""

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from google.protobuf import descriptor_pb2, message_factory
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message

from tests.shop import CALLS, Shop

if TYPE_CHECKING:
    from grpc.aio import UnaryUnaryMultiCallable

CALL_SECONDS = 20.0


def _methods(service: str) -> Mapping[str, MethodDescriptor]:
    module = importlib.import_module(f"libretto.{service}.v1.{service}_service_pb2")
    return {
        f"{service}.{method.name}": method
        for found in module.DESCRIPTOR.services_by_name.values()
        for method in found.methods
    }


METHODS: Mapping[str, MethodDescriptor] = {
    name: method for service in CALLS for name, method in _methods(service).items()
}
"""Every RPC by the short name of its service and its own, such as `catalog.GetProduct`."""


def _with_level(level: int) -> list[str]:
    return [name for name, method in METHODS.items() if method.GetOptions().idempotency_level == level]


MUTATIONS = _with_level(descriptor_pb2.MethodOptions.IDEMPOTENT)
READS = _with_level(descriptor_pb2.MethodOptions.NO_SIDE_EFFECTS)


async def send(shop: Shop, name: str, data: bytes, timeout_seconds: float = CALL_SECONDS) -> bytes:
    """Call a method with bytes, and return the response's."""
    method = METHODS[name]
    path = f"/{method.containing_service.full_name}/{method.name}"
    channel = shop.channels[name.partition(".")[0]]
    stub: UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(path)
    return await stub(data, timeout=timeout_seconds)


async def call(shop: Shop, name: str, request: Message, timeout_seconds: float = CALL_SECONDS) -> Any:  # noqa: ANN401 - each method has a response of its own.
    """Call a method with a message, and return the response."""
    kind = message_factory.GetMessageClass(METHODS[name].output_type)
    return kind.FromString(await send(shop, name, request.SerializeToString(), timeout_seconds))
