"""What the participants are asked, as a function of the order alone, and what their answers mean for the saga."""

from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message
from google.rpc import code_pb2
from libretto.inventory.v1 import inventory_service_pb2
from opentelemetry.trace import NoOpTracer

from services.checkout import clients
from services.checkout.clients import GrpcParticipants
from services.checkout.coordinator import Answer, Done, NotKnown, Refused
from services.checkout.domain import Order, Rejection, RejectionReason
from services.checkout.saga import Action
from services.common import deadline
from services.common.errors import RemoteError, to_status
from services.common.values import DeadlineTooShortError, DomainError, OverloadedError
from services.inventory.domain import Line, OutOfStockError
from tests.fakes.checkout import BEFORE_PIVOT_SECONDS, EMAIL, TOKEN, new_order
from tests.fakes.clock import VirtualClock, in_virtual_time

BUILDERS: dict[Action, Callable[[Order], Any]] = {
    Action.RESERVE_STOCK: clients.reserve_stock,
    Action.RELEASE_RESERVATION: clients.release_reservation,
    Action.COMMIT_RESERVATION: clients.commit_reservation,
    Action.AUTHORIZE_PAYMENT: clients.authorize_payment,
    Action.VOID_PAYMENT: clients.void_payment,
    Action.CAPTURE_PAYMENT: clients.capture_payment,
}
BEFORE_OUTCOME = {Action.RESERVE_STOCK, Action.AUTHORIZE_PAYMENT, Action.CAPTURE_PAYMENT}
BUDGET_SECONDS = 2.0


class FakeChannel:
    """A channel whose calls all end in one way."""

    def __init__(self, answer: Callable[[Message], Awaitable[Message]]) -> None:
        """Answer every call by a function."""
        self._answer = answer

    def unary_unary(self, *_: object, **__: object) -> Callable[[Message], Awaitable[Message]]:
        """Return the function for any method."""
        return self._answer


async def answered(answer: Callable[[Message], Awaitable[Message]], action: Action = Action.RESERVE_STOCK) -> Answer:
    """Perform an action by calls that end in one way."""
    channel: Any = FakeChannel(answer)
    return await GrpcParticipants(channel, channel, NoOpTracer()).perform(
        action, new_order(VirtualClock()), BUDGET_SECONDS
    )


def failing(error: Exception) -> Callable[[Message], Awaitable[Message]]:
    """Return a call that fails."""

    async def call(_request: Message) -> Message:
        raise error

    return call


def remote(code: grpc.StatusCode, *, with_reason: bool) -> RemoteError:
    """Return what a call raises that ended with a code: a service's own, or a bare one as from a proxy."""
    status = to_status(OutOfStockError(Line("MUG", 2), 1))
    if not with_reason:
        del status.details[:]
    status.code = code_pb2.Code.Value(code.name)
    return RemoteError(status)


def refused_by(error: DomainError) -> RemoteError:
    """Return what a call raises that the other service refused."""
    return RemoteError(to_status(error))


@in_virtual_time
async def test_each_action_asks_with_a_key_and_ids_of_its_own_that_follow_from_the_order() -> None:
    """The same when it is asked again, whatever became of the order meanwhile; keys are within their limit."""
    order = new_order(VirtualClock())
    decided = [
        order.confirmed(order.create_time),
        order.rejected(Rejection(RejectionReason.OUT_OF_STOCK), order.decide_by),
    ]
    keys = {build(order).request_id for build in BUILDERS.values()}
    assert len(keys) == len(BUILDERS)
    assert all(len(key) <= 64 for key in keys)
    for action, build in BUILDERS.items():
        assert build(order).order_id == str(order.order_id)
        if action is not Action.AUTHORIZE_PAYMENT:  # It is never asked for after the outcome, when the token is gone.
            assert {build(later).SerializeToString() for later in decided} == {build(order).SerializeToString()}


@in_virtual_time
async def test_only_what_comes_before_the_outcome_is_valid_until_the_orders_time_is_over() -> None:
    """After that a refusal for lateness would help nobody."""
    order = new_order(VirtualClock())
    requests = {action: build(order) for action, build in BUILDERS.items()}
    limited = {action for action, request in requests.items() if "valid_until" in request.DESCRIPTOR.fields_by_name}
    assert limited == BEFORE_OUTCOME
    ends = {requests[action].valid_until.ToDatetime(order.decide_by.tzinfo) for action in limited}
    assert ends == {order.decide_by}


@in_virtual_time
async def test_stock_is_held_for_ten_times_the_orders_time() -> None:
    """Reservations outlive sagas."""
    request: inventory_service_pb2.ReserveStockRequest = clients.reserve_stock(new_order(VirtualClock()))
    assert request.hold_duration.ToTimedelta().total_seconds() == 10 * BEFORE_PIVOT_SECONDS
    assert [(line.sku, line.quantity) for line in request.lines] == [("MUG", 2)]


@in_virtual_time
async def test_the_token_goes_to_the_authorisation_only_and_the_person_nowhere() -> None:
    """No other participant needs to know."""
    order = new_order(VirtualClock())
    texts = {action: str(build(order)) for action, build in BUILDERS.items()}
    assert {action for action, text in texts.items() if TOKEN in text} == {Action.AUTHORIZE_PAYMENT}
    assert not [text for text in texts.values() if EMAIL in text or "Ring 1" in text]


@pytest.mark.parametrize("action", Action)
@in_virtual_time
async def test_a_response_says_that_it_is_done(action: Action) -> None:
    """Now or before, to any action."""

    async def respond(_request: Message) -> Message:
        return inventory_service_pb2.ReserveStockResponse()

    assert await answered(respond, action) == Done()


@in_virtual_time
async def test_a_refusal_says_no_for_good_with_its_reason_and_metadata() -> None:
    """As the other service's contract names them."""
    error = refused_by(OutOfStockError(Line("MUG", 2), 1))
    metadata = {"sku": "MUG", "requested": "2", "available": "1"}
    assert await answered(failing(error)) == Refused("OUT_OF_STOCK", metadata)


@pytest.mark.parametrize("code", list(grpc.StatusCode)[1:], ids=lambda code: code.name)
@in_virtual_time
async def test_only_a_service_that_says_no_for_good_gives_a_verdict(code: grpc.StatusCode) -> None:
    """Any other code leaves the outcome open, an unasked CANCELLED too, and so does any code of a proxy."""
    refused = code.name in {"FAILED_PRECONDITION", "NOT_FOUND", "INVALID_ARGUMENT"}
    answer = await answered(failing(remote(code, with_reason=True)))
    assert isinstance(answer, Refused if refused else NotKnown)
    assert await answered(failing(remote(code, with_reason=False))) == NotKnown(code.name)


@in_virtual_time
async def test_a_wait_that_the_other_service_asks_for_is_passed_on() -> None:
    """RetryInfo, in seconds."""
    assert await answered(failing(refused_by(OverloadedError("")))) == NotKnown("OVERLOADED", 1.0)


@in_virtual_time
async def test_a_call_that_there_is_no_time_for_is_not_known() -> None:
    """It was not sent, so it is asked again like any other."""
    assert await answered(failing(DeadlineTooShortError(""))) == NotKnown("NOT_SENT")


@in_virtual_time
async def test_a_call_has_the_budget_that_it_is_given() -> None:
    """As a deadline, by which the client's interceptor goes."""
    left: list[float] = []

    async def respond(_request: Message) -> Message:
        left.append(deadline.remaining_seconds() or 0.0)
        return inventory_service_pb2.ReserveStockResponse()

    await answered(respond)
    assert BUDGET_SECONDS - 1 < left[0] <= BUDGET_SECONDS


@in_virtual_time
async def test_a_fault_of_ours_is_no_answer() -> None:
    """What no one expected ends the saga, and is seen; it is not taken for a verdict."""
    with pytest.raises(ZeroDivisionError):
        await answered(failing(ZeroDivisionError()))
