"""A server's life: what it tells of itself, how it counts, how it ends, and when it does not begin."""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pb2
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from libretto.pricing.v1 import pricing_service_pb2 as pb

from services.common import server, tracing
from services.common.settings import ServiceSettings
from services.common.tracing import Telemetry
from tests.integration.common.host import SERVICE, Gate, Host, hosted, soon

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
ATTEMPTS = 10_000
REFUSED = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
"""How gRPC ends calls of a server that stops; a call that comes just then may get the second."""


def health_of(host: Host) -> Any:  # noqa: ANN401 - the stubs know no aio.
    """Return a stub for health checks."""
    return health_pb2_grpc.HealthStub(host.channel)


async def reflected(host: Host, request: reflection_pb2.ServerReflectionRequest) -> Any:  # noqa: ANN401 - as above.
    """Ask a server about itself."""
    channel: Any = host.channel  # The stubs know no aio.
    stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
    async for response in stub.ServerReflectionInfo(iter([request]), timeout=10):
        return response
    pytest.fail("no answer")


@asynccontextmanager
async def watched(host: Host, name: str = SERVICE) -> AsyncIterator[Any]:
    """Watch a service's health; the watch ends with the block."""
    watch = health_of(host).Watch(health_pb2.HealthCheckRequest(service=name))
    try:
        yield watch
    finally:
        watch.cancel()


@pytest.mark.parametrize("name", ["", SERVICE])
async def test_the_server_and_its_service_are_healthy(name: str) -> None:
    """By both names."""
    async with hosted() as host:
        response = await health_of(host).Check(health_pb2.HealthCheckRequest(service=name), timeout=10)
    assert response.status == SERVING


async def test_a_service_that_is_not_here_is_unknown_to_health() -> None:
    """As the protocol of health checks says."""
    async with hosted() as host:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await health_of(host).Check(health_pb2.HealthCheckRequest(service="libretto.cart.v1.Cart"), timeout=10)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_reflection_lists_the_service() -> None:
    """With health and reflection itself, so that grpcurl needs no files."""
    async with hosted() as host:
        response = await reflected(host, reflection_pb2.ServerReflectionRequest(list_services=""))
    names = {service.name for service in response.list_services_response.service}
    assert names == {SERVICE, "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"}


@pytest.mark.parametrize("symbol", [SERVICE, "google.rpc.ErrorInfo", "google.rpc.BadRequest", "google.rpc.RetryInfo"])
async def test_reflection_knows_what_clients_have_to_decode(symbol: str) -> None:
    """Requests, responses, and the details of errors."""
    async with hosted() as host:
        request = reflection_pb2.ServerReflectionRequest(file_containing_symbol=symbol)
        response = await reflected(host, request)
    files = [
        descriptor_pb2.FileDescriptorProto.FromString(data)
        for data in response.file_descriptor_response.file_descriptor_proto
    ]
    owner, _, name = symbol.rpartition(".")
    assert any(
        file.package == owner
        and name in {*(service.name for service in file.service), *(kind.name for kind in file.message_type)}
        for file in files
    )


async def test_calls_that_are_open_together_are_counted() -> None:
    """The most there ever were stays known."""
    gate = Gate(expected=7)
    async with hosted(gate) as host:
        calls = [host.send("GetQuote", b"") for _ in range(7)]
        running = asyncio.gather(*calls)
        await soon(gate.full.wait())
        assert (host.running.stats.open_calls, host.running.stats.peak_open_calls) == (7, 7)
        gate.open.set()
        await running
        await host.send("GetQuote", b"")
        assert (host.running.stats.open_calls, host.running.stats.peak_open_calls) == (0, 7)


async def refused_at_last(host: Host) -> None:
    """Call until a call is refused."""
    for _ in range(ATTEMPTS):
        try:
            await host.send("CreateQuote", b"", timeout_seconds=5.0)
        except grpc.aio.AioRpcError as error:
            assert error.code() in REFUSED  # noqa: PT017 - earlier calls may be answered.
            return
    pytest.fail("a server that stops still answers new calls")


async def test_a_stopping_server_says_so_then_refuses_and_lets_open_calls_end() -> None:
    """First NOT_SERVING, so that clients go elsewhere; what it used is closed last."""
    gate = Gate()

    async def answer(request: Any, context: Any) -> pb.GetQuoteResponse:  # noqa: ANN401 - as handlers are.
        return await gate(request, context) if isinstance(request, pb.GetQuoteRequest) else pb.GetQuoteResponse()

    async with hosted(answer, grace_ms=30_000) as host:
        async with watched(host) as watch:
            assert (await soon(watch.read())).status == SERVING
            open_call = asyncio.ensure_future(host.send("GetQuote", b"", timeout_seconds=60.0))
            await soon(gate.full.wait())
            stopping = asyncio.create_task(host.running.stop())
            assert (await soon(watch.read())).status == NOT_SERVING
        await soon(refused_at_last(host))
        assert not open_call.done()
        assert not stopping.done()
        assert not host.closed.is_set()
        gate.open.set()
        assert await soon(open_call) == b""
        await soon(stopping)
        assert host.closed.is_set()


async def test_a_draining_server_still_answers() -> None:
    """For as long as its clients may need to see that it is NOT_SERVING."""
    async with hosted(drain_ms=500) as host, watched(host) as watch:
        assert (await soon(watch.read())).status == SERVING
        stopping = asyncio.create_task(host.running.stop())
        assert (await soon(watch.read())).status == NOT_SERVING
        await host.send("GetQuote", b"")
        watch.cancel()
        await soon(stopping)


async def test_a_call_that_outlasts_the_grace_is_ended() -> None:
    """A handler that hangs does not hold up a stop."""
    gate = Gate()
    async with hosted(gate, grace_ms=50) as host:
        open_call = asyncio.ensure_future(host.send("GetQuote", b"", timeout_seconds=60.0))
        await soon(gate.full.wait())
        await soon(host.running.stop())
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await soon(open_call)
        assert gate.cancelled.is_set()
        assert host.closed.is_set()
    assert caught.value.code() in REFUSED


async def test_a_server_may_be_stopped_twice() -> None:
    """The second time there is nothing left to do."""
    async with hosted() as host:
        await soon(host.running.stop())
        await soon(host.running.stop())


async def test_what_a_server_used_is_closed_even_if_its_stop_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pool that stays open would keep its connections until the process ends."""
    async with hosted() as host:
        with monkeypatch.context() as patched:
            patched.setattr(health.aio.HealthServicer, "enter_graceful_shutdown", broken)
            with pytest.raises(LookupError):
                await soon(host.running.stop())
        assert host.closed.is_set()


async def test_a_start_that_fails_halfway_closes_what_was_handed_over() -> None:
    """Whatever it was that failed, here the adding of the servicer."""
    closed = asyncio.Event()
    resources = AsyncExitStack()
    resources.callback(closed.set)
    settings = ServiceSettings(listen="127.0.0.1:0", database_url="", fingerprint_key="")

    def add_servicer(_server: grpc.aio.Server) -> None:
        raise LookupError

    with pytest.raises(LookupError):
        await server.start(SERVICE, add_servicer, settings, Telemetry(tracing.new_provider("pricing")), resources)
    assert closed.is_set()


async def test_a_start_that_fails_at_its_end_leaves_nothing_that_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its port is free again, though the failure that is kept still knows the server."""
    async with hosted(listen="127.0.0.1:0") as host:
        address = host.running.address
    with monkeypatch.context() as patched:
        patched.setattr(health.aio.HealthServicer, "set", broken)
        with pytest.raises(LookupError) as kept:
            async with hosted(listen=address):
                pytest.fail("it serves, and tells nobody")
    async with hosted(listen=address) as host:
        await host.send("GetQuote", b"")
    assert kept.tb


async def broken(*_: object) -> None:
    """Stand for a step that fails."""
    raise LookupError


async def test_a_free_port_is_chosen_and_told() -> None:
    """Port 0 stands for any."""
    async with hosted(listen="127.0.0.1:0") as host:
        name, _, port = host.running.address.rpartition(":")
        assert name == "127.0.0.1"
        assert int(port) > 0
        await host.send("GetQuote", b"")


async def test_a_taken_address_is_refused_with_a_sentence() -> None:
    """Neither in silence nor by sharing the port; the first server goes on."""
    async with hosted(listen="127.0.0.1:0") as first:
        address = first.running.address
        with pytest.raises(OSError, match=f"cannot listen on {address}: is something else listening there"):
            async with hosted(listen=address):
                pytest.fail("a second server has the same port")
        await first.send("GetQuote", b"")


@pytest.mark.parametrize("listen", ["nowhere.invalid:0", "no port"])
async def test_an_address_that_cannot_be_listened_on_is_refused(listen: str) -> None:
    """As a sentence too."""
    with pytest.raises(OSError, match="cannot listen on"):
        async with hosted(listen=listen):
            pytest.fail("it listens nowhere")


async def test_a_socket_in_a_folder_that_is_not_there_is_refused() -> None:
    """It is not made for it."""
    with tempfile.TemporaryDirectory(prefix="libretto-") as folder:
        listen = f"unix:{Path(folder) / 'missing' / 'host.sock'}"
        with pytest.raises(OSError, match="cannot listen on"):
            async with hosted(listen=listen):
                pytest.fail("it listens nowhere")
