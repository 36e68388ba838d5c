"""Payment's RPCs: a request becomes a command, the store begins it, the settlement sees it through."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

from google.protobuf.message import Message
from libretto.payment.v1 import payment_pb2, payment_service_pb2_grpc
from libretto.payment.v1 import payment_service_pb2 as pb

from services.common.fields import Fields, money_message, time_message
from services.common.idempotency import Fingerprints, Keyed, Undecided, Verdict
from services.common.layers import Context
from services.common.pages import parse_page, read_number
from services.payment.domain import AuthorizePayment, CapturePayment, Payment, PaymentNotFoundError, VoidPayment
from services.payment.settlement import Settlement
from services.payment.store import AUTHORIZE, CAPTURE, VOID, Asked, PaymentStore

C = TypeVar("C", AuthorizePayment, CapturePayment, VoidPayment)

_ASKS_LIMIT = 3
"""A capture that comes while the payment is being authorised waits for that, begins, and learns the outcome."""


class PaymentServicer(payment_service_pb2_grpc.PaymentServiceServicer):
    """Answers for payments, as the contract says."""

    def __init__(self, store: PaymentStore, settlement: Settlement, fingerprints: Fingerprints) -> None:
        """Keep rows in a store, have intents settled, and recognise requests by their fingerprints."""
        self._store, self._settlement, self._fingerprints = store, settlement, fingerprints

    async def AuthorizePayment(
        self, request: pb.AuthorizePaymentRequest, context: Context
    ) -> pb.AuthorizePaymentResponse:
        """Have an amount held."""
        verdict = await self._verdict(self._store.authorize, _parse_authorize(request))
        return verdict.parse(pb.AuthorizePaymentResponse)

    async def CapturePayment(self, request: pb.CapturePaymentRequest, context: Context) -> pb.CapturePaymentResponse:
        """Take the amount."""
        verdict = await self._verdict(self._store.capture, _parse_capture(request))
        return verdict.parse(pb.CapturePaymentResponse)

    async def VoidPayment(self, request: pb.VoidPaymentRequest, context: Context) -> pb.VoidPaymentResponse:
        """Promise never to take the amount."""
        verdict = await self._verdict(self._store.void, _parse_void(request))
        return verdict.parse(pb.VoidPaymentResponse)

    async def GetPayment(self, request: pb.GetPaymentRequest, context: Context) -> pb.GetPaymentResponse:
        """Read one payment."""
        with Fields() as fields:
            payment_id = fields.uuid("payment_id", request.payment_id)
        payment = await self._store.payment(payment_id)
        if payment is None:
            raise PaymentNotFoundError(payment_id)
        return pb.GetPaymentResponse(payment=payment_message(payment))

    async def ListPayments(self, request: pb.ListPaymentsRequest, context: Context) -> pb.ListPaymentsResponse:
        """List payments, oldest first."""
        with Fields() as fields:
            order_id = fields.optional_uuid("order_id", request.order_id)
            filters = ("payments", str(order_id or ""))
            page = parse_page(fields, request.page_size, request.page_token, key_length=1, filters=filters)
            after = page.position(fields, read_number, 0)
        rows = await self._store.payments(order_id, after, page.size + 1)
        shown, next_page_token = page.cut(rows, lambda row: (str(row[0]),))
        return pb.ListPaymentsResponse(
            payments=[payment_message(payment) for _, payment in shown], next_page_token=next_page_token
        )

    async def _verdict(self, act: Callable[[Sequence[Keyed[C]]], Awaitable[Asked]], command: C) -> Verdict:
        """Have a command decided; where the processor has the word, wait for it inside the caller's time."""
        keyed = self._fingerprints.keyed(command.request_id, command)
        for _ in range(_ASKS_LIMIT):
            asked = await act([keyed])
            (verdict,) = asked.verdicts
            begun = bool(asked.begun)
            if not isinstance(verdict, Undecided):
                if begun:
                    self._settlement.fly(command.payment_id, begun=True)
                return verdict
            if not await self._settlement.settled(command.payment_id, begun=begun):
                break
        return Undecided()


def payment_message(payment: Payment) -> payment_pb2.Payment:
    """Write a payment."""
    amount, captured, reason = payment.amount, payment.captured_amount, payment.decline_reason
    reason_name = "UNSPECIFIED" if reason is None else reason.name
    return payment_pb2.Payment(
        payment_id=str(payment.payment_id),
        order_id=str(payment.order_id),
        state=payment_pb2.PaymentState.Value(f"PAYMENT_STATE_{payment.state.name}"),
        amount=None if amount is None else money_message(amount),
        captured_amount=None if captured is None else money_message(captured),
        decline_reason=payment_pb2.DeclineReason.Value(f"DECLINE_REASON_{reason_name}"),
        create_time=time_message(payment.create_time),
        update_time=time_message(payment.update_time),
    )


WRITERS: Mapping[str, Callable[[Payment], Message]] = {
    AUTHORIZE: lambda payment: pb.AuthorizePaymentResponse(payment=payment_message(payment)),
    CAPTURE: lambda payment: pb.CapturePaymentResponse(payment=payment_message(payment)),
    VOID: lambda payment: pb.VoidPaymentResponse(payment=payment_message(payment)),
}
"""What writes the response of each method, as the store keeps it."""


def _parse_authorize(request: pb.AuthorizePaymentRequest) -> AuthorizePayment:
    with Fields() as fields:
        return AuthorizePayment(
            request_id=fields.request_id(request.request_id),
            payment_id=fields.uuid("payment_id", request.payment_id),
            order_id=fields.uuid("order_id", request.order_id),
            amount=fields.money("amount", request.amount, present=request.HasField("amount")),
            token=fields.token("payment_method_token", request.payment_method_token),
            valid_until=fields.optional_time(
                "valid_until", request.valid_until, present=request.HasField("valid_until")
            ),
        )


def _parse_capture(request: pb.CapturePaymentRequest) -> CapturePayment:
    with Fields() as fields:
        return CapturePayment(
            request_id=fields.request_id(request.request_id),
            payment_id=fields.uuid("payment_id", request.payment_id),
            order_id=fields.uuid("order_id", request.order_id),
            valid_until=fields.optional_time(
                "valid_until", request.valid_until, present=request.HasField("valid_until")
            ),
        )


def _parse_void(request: pb.VoidPaymentRequest) -> VoidPayment:
    with Fields() as fields:
        return VoidPayment(
            request_id=fields.request_id(request.request_id),
            payment_id=fields.uuid("payment_id", request.payment_id),
            order_id=fields.uuid("order_id", request.order_id),
        )
