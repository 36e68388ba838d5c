"""What must hold of every order once all is quiet, and of every call on the way (reliability: invariants 1 to 5, 8)."""

from collections.abc import Iterator

from services.checkout.coordinator import Done, Refused
from services.checkout.domain import Order, OrderState
from services.checkout.saga import Action
from services.inventory.domain import Line, ReservationState
from services.payment.domain import AuthorizationState, PaymentState
from tests.fakes.checkout_world import Call, World

_BEFORE_OUTCOME = {Action.RESERVE_STOCK, Action.AUTHORIZE_PAYMENT, Action.CAPTURE_PAYMENT}
_NOTHING_HELD = {AuthorizationState.VOIDED, AuthorizationState.DECLINED}


def violations(world: World) -> list[str]:
    """Return what is wrong, a sentence each."""
    wrong = [f"{order.request_id}: {what}" for order in world.orders for what in _wrong_with(world, order)]
    return [*wrong, *_wrong_with_stock(world)]


def ending(world: World, order: Order) -> str:
    """Tell how an order ended: its state, why it was rejected, and what else tells endings apart."""
    row = world.store.rows[order.order_id]
    voids = [call for call in world.calls[order.order_id] if call.action is Action.VOID_PAYMENT]
    late = " though voided" if row.state is not OrderState.REJECTED and voids else ""
    attention = " with attention" if any("ATTENTION" in line for line in row.story.values()) else ""
    return f"{row.state.value} {row.rejection.reason if row.rejection else ''}".strip() + late + attention


def _wrong_with(world: World, order: Order) -> Iterator[str]:
    yield from _wrong_with_journal(world, order)
    yield from _wrong_with_calls(world, order)
    if world.store.rows[order.order_id].state is OrderState.REJECTED:
        yield from _wrong_with_rejected(world, order)
    else:
        yield from _wrong_with_confirmed(world, order)
    if order.order_id in world.captured_without_stock:
        yield "captured without stock held"


def _wrong_with_journal(world: World, order: Order) -> Iterator[str]:
    row, story = world.store.rows[order.order_id], world.store.story(order)
    if sorted(row.story) != list(range(1, row.last_sequence + 1)):
        yield f"the journal is not dense: {sorted(row.story)}"
    states = [line.partition(" ")[0] for line in story if line.partition(" ")[0] in OrderState.__members__]
    if states not in (["CONFIRMED"], ["CONFIRMED", "COMPLETED"], ["REJECTED"]):
        yield f"not one outcome: {states}"
    elif states[-1] != row.state.value or len(row.verdicts) != 1:
        yield f"the journal tells {states}, the row {row.state}, with {len(row.verdicts)} verdicts"


def _wrong_with_calls(world: World, order: Order) -> Iterator[str]:
    voided = False
    time_over_seconds = (order.decide_by - order.create_time).total_seconds() + _placed_seconds(world, order)
    for call in world.calls[order.order_id]:
        if Action.VOID_PAYMENT in (call.action, *call.beside) and call.beside:
            yield f"{call.action} beside {call.beside}"
        if call.action is Action.RELEASE_RESERVATION and not (voided and call.rejected):
            yield "stock given back before the void and the rejection were known"
        if call.action in _BEFORE_OUTCOME and call.began_seconds >= time_over_seconds:
            yield f"{call.action} begun too late"
        voided = voided or _permits_rejection(call)


def _placed_seconds(world: World, order: Order) -> float:
    start = world.clock.now().timestamp() - world.clock.monotonic_seconds()
    return order.create_time.timestamp() - start


def _permits_rejection(call: Call) -> bool:
    return call.action is Action.VOID_PAYMENT and isinstance(call.answer, Done)


def _wrong_with_rejected(world: World, order: Order) -> Iterator[str]:
    payment = world.services.payment.payments.get(order.payment_id)
    processor = world.services.payment.processor
    authorization = processor.authorizations.get(order.payment_id)
    reservation = world.services.inventory.reservations.get(order.reservation_id)
    if processor.captures[order.payment_id]:
        yield "rejected and captured"
    if payment is None or payment.state not in {PaymentState.VOIDED, PaymentState.DECLINED} or payment.open:
        yield f"rejected with the payment {payment}"
    if authorization is not None and authorization.state not in _NOTHING_HELD:
        yield "rejected with money held on the card"
    if reservation is None or reservation.state is not ReservationState.RELEASED:
        yield f"rejected with the reservation {reservation}"


def _wrong_with_confirmed(world: World, order: Order) -> Iterator[str]:
    row = world.store.rows[order.order_id]
    payment = world.services.payment.payments.get(order.payment_id)
    reservation = world.services.inventory.reservations.get(order.reservation_id)
    captures = world.services.payment.processor.captures[order.payment_id]
    if captures != 1:
        yield f"{row.state.value} and captured {captures} times"
    if payment is None or payment.state is not PaymentState.CAPTURED:
        yield f"{row.state.value} with the payment {payment}"
    sold = reservation is not None and reservation.state is ReservationState.COMMITTED
    if sold is not (row.state is OrderState.COMPLETED):
        yield f"{row.state.value} with the reservation {reservation}"
    commits = [call for call in world.calls[order.order_id] if call.action is Action.COMMIT_RESERVATION]
    refused = [call for call in commits if isinstance(call.answer, Refused)]
    asks_for_help = any(line.startswith("NEEDS_ATTENTION commit_reservation") for line in row.story.values())
    if row.state is OrderState.CONFIRMED and not (refused and asks_for_help):
        yield "neither completed nor marked for attention"


def _wrong_with_stock(world: World) -> Iterator[str]:
    inventory = world.services.inventory
    for sku, level in inventory.levels.items():
        parts = [(state, line.quantity) for state, line in _lines(world, sku)]
        reserved = sum(quantity for state, quantity in parts if state is ReservationState.ACTIVE)
        sold = sum(quantity for state, quantity in parts if state is ReservationState.COMMITTED)
        if (level.reserved, level.sold, level.received) != (reserved, sold, inventory.received[sku]):
            yield f"{sku}: {level} with {reserved} reserved and {sold} sold"
        if level.available < 0:
            yield f"{sku}: {level.available} available"


def _lines(world: World, sku: str) -> Iterator[tuple[ReservationState, Line]]:
    for reservation in world.services.inventory.reservations.values():
        yield from ((reservation.state, line) for line in reservation.lines if line.sku == sku)
