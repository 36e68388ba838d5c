"""A handle on a running payment service: requests with fresh ids, a look into its rows and the processor's ledger."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import asyncpg
import grpc
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from google.type.money_pb2 import Money
from libretto.payment.v1.payment_pb2 import Payment, PaymentState
from libretto.payment.v1.payment_service_pb2 import (
    AuthorizePaymentRequest,
    CapturePaymentRequest,
    GetPaymentRequest,
    VoidPaymentRequest,
)
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from services.common.database import Connection, Database
from tests.integration.card_processor import Processor
from tests.rpc import new_key, new_uuid, read_refusal

if TYPE_CHECKING:
    from libretto.payment.v1.payment_service_pb2_grpc import PaymentServiceAsyncStub

MINOR = 1250
WAIT_SECONDS = 20.0
SHORT_SECONDS = 0.3
"""Half of what the processor of these tests takes for its slow tokens."""

Request = AuthorizePaymentRequest | CapturePaymentRequest | VoidPaymentRequest


def authorize_request(
    token: str = "tok_succeeds",  # noqa: S107 - a test token.
    minor: int = MINOR,
    *,
    request_id: str = "",
    payment_id: str = "",
    order_id: str = "",
) -> AuthorizePaymentRequest:
    """Make a request for euros, with fresh ids where none are given."""
    return AuthorizePaymentRequest(
        request_id=request_id or new_key(),
        payment_id=payment_id or new_uuid(),
        order_id=order_id or new_uuid(),
        amount=Money(currency_code="EUR", units=minor // 100, nanos=minor % 100 * 10_000_000),
        payment_method_token=token,
    )


def capture_request(of: Request | Payment, valid_until: Timestamp | None = None) -> CapturePaymentRequest:
    """Make a request to capture the payment of another request, with a fresh key."""
    return CapturePaymentRequest(
        request_id=new_key(), payment_id=of.payment_id, order_id=of.order_id, valid_until=valid_until
    )


def void_request(of: Request | Payment) -> VoidPaymentRequest:
    """Make a request to void the payment of another request, with a fresh key."""
    return VoidPaymentRequest(request_id=new_key(), payment_id=of.payment_id, order_id=of.order_id)


async def until(true: Callable[[], Awaitable[bool]]) -> None:
    """Ask again until it is so, for a bounded time."""
    async with asyncio.timeout(WAIT_SECONDS):
        while not await true():
            pass


@dataclass(frozen=True, slots=True)
class Till:
    """Payment's stub, database, spans and address, and the processor."""

    stub: "PaymentServiceAsyncStub"
    database: Database
    processor: Processor
    spans: InMemorySpanExporter
    address: str

    async def send(self, request: Request, seconds: float = WAIT_SECONDS) -> Payment:
        """Make a call with a deadline; returns the payment of the response."""
        return parsed(await self.answer(request, seconds))

    async def answer(self, request: Request, seconds: float = WAIT_SECONDS) -> Any:  # noqa: ANN401 - one of three.
        """Make a call with a deadline; returns the response."""
        method = {
            AuthorizePaymentRequest: self.stub.AuthorizePayment,
            CapturePaymentRequest: self.stub.CapturePayment,
            VoidPaymentRequest: self.stub.VoidPayment,
        }[type(request)]
        return await method(request, timeout=seconds)  # type: ignore[operator]

    async def outcome(self, request: Request, seconds: float = WAIT_SECONDS) -> bytes:
        """Make a call, and return the bytes of what came back, a response or a status."""
        try:
            response: Message = await self.answer(request, seconds)
            return response.SerializeToString(deterministic=True)
        except grpc.aio.AioRpcError as error:
            return read_refusal(error).status

    async def authorized(self, token: str = "tok_succeeds", minor: int = MINOR) -> Payment:  # noqa: S107
        """Return a new authorised payment."""
        payment = await self.send(authorize_request(token, minor))
        assert payment.state == PaymentState.PAYMENT_STATE_AUTHORIZED
        return payment

    async def payment(self, of: Request | Payment) -> Payment:
        """Return a payment as it stands."""
        response = await self.stub.GetPayment(GetPaymentRequest(payment_id=of.payment_id), timeout=WAIT_SECONDS)
        return response.payment

    async def state(self, of: Request | Payment) -> str:
        """Return the state of a payment."""
        return PaymentState.Name((await self.payment(of)).state).removeprefix("PAYMENT_STATE_")

    async def reaches(self, of: Request | Payment, state: str) -> None:
        """Wait until a payment is in a state."""

        async def reached() -> bool:
            return await self.state(of) == state

        await until(reached)

    async def begun(self, of: Request) -> None:
        """Wait until a request to authorise has made its payment."""

        async def made() -> bool:
            async with self.database.connection() as connection:
                found = await connection.fetchval("SELECT 1 FROM payments WHERE payment_id = $1", of.payment_id)
            return found is not None

        await until(made)

    async def effects(self, of: Request | Payment) -> list[str]:
        """Return the kinds of entries for a payment in the processor's ledger, in order."""
        return [kind for kind, _ in await asyncio.to_thread(self.processor.effects, of.payment_id)]

    async def settled(self, of: Request | Payment) -> None:
        """Wait until there is nothing left to be settled with the processor about a payment."""

        async def quiet() -> bool:
            return (await self.row(of))["next_attempt_time"] is None

        await until(quiet)

    async def row(self, of: Request | Payment) -> asyncpg.Record:
        """Return the row of a payment."""
        async with self.database.connection() as connection:
            row = await connection.fetchrow("SELECT * FROM payments WHERE payment_id = $1", of.payment_id)
        assert row is not None
        return row

    async def count(self, table: str) -> int:
        """Count the rows of a table."""
        async with self.database.connection() as connection:
            count: int = await connection.fetchval(f"SELECT count(*) FROM {table}")  # noqa: S608 - a test's own word.
        return count

    async def execute(self, statement: str, *values: object) -> None:
        """Change rows behind the service's back."""

        async def work(connection: Connection) -> None:
            await connection.execute(statement, *values)

        await self.database.transaction(work)


def parsed(response: Any) -> Payment:  # noqa: ANN401 - one of three.
    """Return the payment of a response."""
    payment: Payment = response.payment
    return payment
