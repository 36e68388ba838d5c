"""What tests need to make calls: fresh keys and ids, and refusals read back from the wire."""

import random
import secrets
from collections.abc import Awaitable
from dataclasses import dataclass

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from services.common.values import SystemClock, new_id


@dataclass(frozen=True, slots=True)
class Refusal:
    """How a call was refused, as a caller sees it."""

    code: grpc.StatusCode
    reason: str
    domain: str
    metadata: dict[str, str]
    fields: tuple[tuple[str, str], ...]
    """The path and the reason of each wrong field."""
    retry_after_seconds: float | None
    status: bytes
    """The google.rpc.Status as it came, serialised."""
    trace_id: str


async def refusal(call: Awaitable[object]) -> Refusal:
    """Await a call that must fail, and read why."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return read_refusal(caught.value)


def read_refusal(error: grpc.aio.AioRpcError) -> Refusal:
    """Read why a call failed."""
    status = rpc_status.from_call(error)  # type: ignore[arg-type]  # the stubs know no aio
    assert status is not None, f"{error.code()} came without details: {error.details()}"
    info, bad, retry = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
    waits = []
    for detail in status.details:
        detail.Unpack(info)
        detail.Unpack(bad)
        if detail.Unpack(retry):
            waits.append(retry.retry_delay.ToTimedelta().total_seconds())
    trailing = dict(error.trailing_metadata() or ())
    return Refusal(
        code=error.code(),
        reason=info.reason,
        domain=info.domain,
        metadata=dict(info.metadata),
        fields=tuple((violation.field, violation.reason) for violation in bad.field_violations),
        retry_after_seconds=waits[0] if waits else None,
        status=status.SerializeToString(),
        trace_id=str(trailing.get("trace-id", "")),
    )


def new_key() -> str:
    """Make a request_id that was never used."""
    return f"test-{secrets.token_hex(8)}"


def new_sku() -> str:
    """Make a SKU that was never used."""
    return f"SKU-{secrets.token_hex(6).upper()}"


def new_uuid() -> str:
    """Make an id that was never used."""
    return str(new_id(SystemClock(), random.SystemRandom()))
