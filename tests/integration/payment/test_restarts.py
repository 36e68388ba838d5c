"""Stops and outages: a payment service that ends in the middle of a call, and a processor that is away for a while."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import grpc
import pytest_asyncio
from libretto.payment.v1 import payment_service_pb2_grpc
from libretto.payment.v1.payment_pb2 import Payment
from libretto.payment.v1.payment_service_pb2 import AuthorizePaymentRequest, VoidPaymentRequest

from services.common import tracing
from services.common.database import drop_database, ensure_database
from services.common.server import Running
from services.common.tracing import Telemetry
from services.payment.__main__ import serve
from services.payment.config import PaymentSettings
from tests.integration.card_processor import API_KEY, Processor
from tests.integration.payment.till import MINOR, WAIT_SECONDS, authorize_request, until, void_request
from tests.rpc import new_key, read_refusal

TELEMETRY = Telemetry(tracing.new_provider("payment"))


@pytest_asyncio.fixture(loop_scope="session")
async def settings(postgres_url: str, slow_processor: Processor, tmp_path: Path) -> AsyncIterator[PaymentSettings]:
    """The settings of a service with a database of its own, which stops without patience."""
    name = f"payment_{new_key().removeprefix('test-')}"
    yield PaymentSettings(
        listen=f"unix:{tmp_path}/payment.sock",
        database_url=await ensure_database(postgres_url, name),
        fingerprint_key="a-key-for-tests",
        grace_ms=0,
        processor_url=f"http://{slow_processor.address}",
        processor_api_key=API_KEY,
        resolve_interval_seconds=0.05,
        flight_grace_seconds=0,
    )
    await drop_database(postgres_url, name)


async def send(
    running: Running, request: AuthorizePaymentRequest | VoidPaymentRequest
) -> Payment | grpc.aio.AioRpcError:
    """Make a call; returns its payment, or how it failed."""
    async with grpc.aio.insecure_channel(running.address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        stub = payment_service_pb2_grpc.PaymentServiceStub(channel)
        try:
            if isinstance(request, VoidPaymentRequest):
                return (await stub.VoidPayment(request, timeout=WAIT_SECONDS)).payment
            return (await stub.AuthorizePayment(request, timeout=WAIT_SECONDS)).payment
        except grpc.aio.AioRpcError as error:
            return error


async def released(processor: Processor, of: AuthorizePaymentRequest) -> bool:
    """Whether a payment was authorised and then voided in the processor's ledger."""
    entries = await asyncio.to_thread(processor.effects, of.payment_id)
    return [kind for kind, _ in entries] == ["authorized", "voided"]


async def test_a_service_that_stops_in_the_middle_of_a_call_goes_on_after_its_start(
    settings: PaymentSettings, slow_processor: Processor
) -> None:
    """The call is broken off, its intent stays, and the same request learns the outcome: authorised once."""
    request = authorize_request("tok_slow")
    first = await serve(settings, TELEMETRY)
    calling = asyncio.create_task(send(first, request))

    async def under_way() -> bool:
        await asyncio.sleep(0)
        return first.stats.open_calls == 1

    await until(under_way)
    await first.stop()
    assert isinstance(await calling, grpc.aio.AioRpcError)

    second = await serve(settings, TELEMETRY)
    payment = await send(second, request)
    again = await send(second, request)
    await second.stop()

    assert isinstance(payment, Payment)
    assert again == payment
    assert slow_processor.effects(request.payment_id) == [("authorized", MINOR)]


async def test_a_hold_is_released_right_behind_the_answer(settings: PaymentSettings, slow_processor: Processor) -> None:
    """Without the loop that looks for what was left behind."""
    running = await serve(replace(settings, resolve_interval_seconds=86_400.0), TELEMETRY)
    request = authorize_request()
    assert isinstance(await send(running, request), Payment)

    assert isinstance(await send(running, void_request(request)), Payment)

    await until(partial(released, slow_processor, request))
    await running.stop()


async def test_a_processor_that_was_away_is_asked_again_when_it_is_back(
    settings: PaymentSettings, tmp_path: Path
) -> None:
    """Refused connections leave an authorisation pending and a hold to be released; later both are done."""
    away = Processor(tmp_path)
    running = await serve(replace(settings, processor_url=f"http://{away.address}"), TELEMETRY)
    wanted, undone = authorize_request(), authorize_request()
    assert isinstance(await send(running, undone), Payment)
    away.stop()

    pending = await send(running, wanted)
    assert isinstance(pending, grpc.aio.AioRpcError)
    assert read_refusal(pending).reason == "OUTCOME_PENDING"
    assert isinstance(await send(running, void_request(undone)), Payment)
    back = Processor(tmp_path, listen=away.address)

    await until(partial(released, back, undone))
    assert isinstance(await send(running, wanted), Payment)
    assert back.effects(wanted.payment_id) == [("authorized", MINOR)]
    await running.stop()
    back.stop()
