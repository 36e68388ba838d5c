"""Inventory's RPCs: a request becomes a command, the store decides it, and its verdict becomes the response."""

from libretto.inventory.v1 import inventory_service_pb2 as pb
from libretto.inventory.v1 import inventory_service_pb2_grpc, reservation_pb2, stock_pb2

from services.common.errors import to_status
from services.common.fields import Fields, time_message
from services.common.idempotency import Fingerprints
from services.common.layers import Context
from services.common.pages import parse_page, read_number
from services.inventory.domain import (
    AdjustStock,
    CommitReservation,
    Line,
    RecordedMovement,
    ReleaseReservation,
    Reservation,
    ReservationNotFoundError,
    ReserveStock,
    SkuNotFoundError,
    StockLevel,
)
from services.inventory.store import InventoryStore

_BATCH_LIMIT = 64
_LINES_LIMIT = 64
_QUANTITY_LIMIT = 1_000
_CHANGE_LIMIT = 1_000_000
_HOLD_SECONDS = 15 * 60
_HOLD_LIMIT_SECONDS = 7 * 24 * 60 * 60


class InventoryServicer(inventory_service_pb2_grpc.InventoryServiceServicer):
    """Answers for stock and reservations, as the contract says."""

    def __init__(self, store: InventoryStore, fingerprints: Fingerprints) -> None:
        """Keep rows in a store, and recognise requests by their fingerprints."""
        self._store, self._fingerprints = store, fingerprints

    async def GetStock(self, request: pb.GetStockRequest, context: Context) -> pb.GetStockResponse:
        """Read one level."""
        with Fields() as fields:
            sku = fields.sku("sku", request.sku)
        level = (await self._store.levels([sku])).get(sku)
        if level is None:
            raise SkuNotFoundError(sku)
        return pb.GetStockResponse(stock_level=level_message(level))

    async def BatchGetStock(self, request: pb.BatchGetStockRequest, context: Context) -> pb.BatchGetStockResponse:
        """Read several levels, a result each."""
        with Fields() as fields:
            items = enumerate(fields.each("skus", request.skus, at_most=_BATCH_LIMIT))
            skus = [fields.sku(f"skus[{index}]", sku) for index, (_, sku) in items]
        levels = await self._store.levels(skus)
        return pb.BatchGetStockResponse(results=[_batch_result(sku, levels.get(sku)) for sku in skus])

    async def AdjustStock(self, request: pb.AdjustStockRequest, context: Context) -> pb.AdjustStockResponse:
        """Add or write off pieces."""
        keyed = self._fingerprints.keyed(request.request_id, _parse_adjustment(request))
        (verdict,) = await self._store.adjust([keyed], _write_adjusted)
        return verdict.parse(pb.AdjustStockResponse)

    async def ListMovements(self, request: pb.ListMovementsRequest, context: Context) -> pb.ListMovementsResponse:
        """List what moved stock."""
        with Fields() as fields:
            sku = fields.sku("sku", request.sku) if request.sku else None
            order_id = fields.optional_uuid("order_id", request.order_id)
            filters = ("movements", sku or "", str(order_id or ""))
            page = parse_page(fields, request.page_size, request.page_token, key_length=1, filters=filters)
            after = page.position(fields, read_number, 0)
        rows = await self._store.movements(sku, order_id, after, page.size + 1)
        shown, next_page_token = page.cut(rows, lambda row: (str(row[0]),))
        return pb.ListMovementsResponse(
            movements=[movement_message(movement) for _, movement in shown], next_page_token=next_page_token
        )

    async def ReserveStock(self, request: pb.ReserveStockRequest, context: Context) -> pb.ReserveStockResponse:
        """Hold stock for an order."""
        keyed = self._fingerprints.keyed(request.request_id, _parse_reservation(request))
        (verdict,) = await self._store.reserve([keyed], _write_reserved)
        return verdict.parse(pb.ReserveStockResponse)

    async def CommitReservation(
        self, request: pb.CommitReservationRequest, context: Context
    ) -> pb.CommitReservationResponse:
        """Sell what is held."""
        keyed = self._fingerprints.keyed(request.request_id, _parse_commit(request))
        (verdict,) = await self._store.commit([keyed], _write_committed)
        return verdict.parse(pb.CommitReservationResponse)

    async def ReleaseReservation(
        self, request: pb.ReleaseReservationRequest, context: Context
    ) -> pb.ReleaseReservationResponse:
        """Give back what is held."""
        keyed = self._fingerprints.keyed(request.request_id, _parse_release(request))
        (verdict,) = await self._store.release([keyed], _write_released)
        return verdict.parse(pb.ReleaseReservationResponse)

    async def GetReservation(self, request: pb.GetReservationRequest, context: Context) -> pb.GetReservationResponse:
        """Read one reservation."""
        with Fields() as fields:
            reservation_id = fields.uuid("reservation_id", request.reservation_id)
        reservation = await self._store.reservation(reservation_id)
        if reservation is None:
            raise ReservationNotFoundError(reservation_id)
        return pb.GetReservationResponse(reservation=reservation_message(reservation))

    async def ListReservations(
        self, request: pb.ListReservationsRequest, context: Context
    ) -> pb.ListReservationsResponse:
        """List reservations."""
        with Fields() as fields:
            order_id = fields.optional_uuid("order_id", request.order_id)
            filters = ("reservations", str(order_id or ""))
            page = parse_page(fields, request.page_size, request.page_token, key_length=1, filters=filters)
            after = page.position(fields, read_number, 0)
        rows = await self._store.reservations(order_id, after, page.size + 1)
        shown, next_page_token = page.cut(rows, lambda row: (str(row[0]),))
        return pb.ListReservationsResponse(
            reservations=[reservation_message(reservation) for _, reservation in shown], next_page_token=next_page_token
        )


def level_message(level: StockLevel) -> stock_pb2.StockLevel:
    """Write a level."""
    return stock_pb2.StockLevel(
        sku=level.sku,
        available=level.available,
        reserved=level.reserved,
        sold=level.sold,
        received=level.received,
        update_time=time_message(level.update_time),
    )


def movement_message(recorded: RecordedMovement) -> stock_pb2.StockMovement:
    """Write a movement."""
    movement = recorded.movement
    return stock_pb2.StockMovement(
        movement_id=str(recorded.movement_id),
        sku=movement.sku,
        kind=stock_pb2.StockMovementKind.Value(f"STOCK_MOVEMENT_KIND_{movement.kind.name}"),
        available_change=movement.available_change,
        reserved_change=movement.reserved_change,
        sold_change=movement.sold_change,
        reservation_id=str(movement.reservation_id or ""),
        order_id=str(movement.order_id or ""),
        create_time=time_message(movement.create_time),
    )


def reservation_message(reservation: Reservation) -> reservation_pb2.Reservation:
    """Write a reservation."""
    expire_time = reservation.expire_time
    return reservation_pb2.Reservation(
        reservation_id=str(reservation.reservation_id),
        order_id=str(reservation.order_id),
        state=reservation_pb2.ReservationState.Value(f"RESERVATION_STATE_{reservation.state.name}"),
        lines=[reservation_pb2.ReservationLine(sku=line.sku, quantity=line.quantity) for line in reservation.lines],
        expire_time=None if expire_time is None else time_message(expire_time),
        create_time=time_message(reservation.create_time),
        update_time=time_message(reservation.update_time),
    )


def _write_adjusted(level: StockLevel) -> pb.AdjustStockResponse:
    return pb.AdjustStockResponse(stock_level=level_message(level))


def _write_reserved(reservation: Reservation) -> pb.ReserveStockResponse:
    return pb.ReserveStockResponse(reservation=reservation_message(reservation))


def _write_committed(reservation: Reservation) -> pb.CommitReservationResponse:
    return pb.CommitReservationResponse(reservation=reservation_message(reservation))


def _write_released(reservation: Reservation) -> pb.ReleaseReservationResponse:
    return pb.ReleaseReservationResponse(reservation=reservation_message(reservation))


def _batch_result(sku: str, level: StockLevel | None) -> pb.BatchGetStockResult:
    if level is None:
        return pb.BatchGetStockResult(status=to_status(SkuNotFoundError(sku)))
    return pb.BatchGetStockResult(stock_level=level_message(level))


def _parse_adjustment(request: pb.AdjustStockRequest) -> AdjustStock:
    with Fields() as fields:
        fields.request_id(request.request_id)
        sku = fields.sku("sku", request.sku)
        if request.change == 0:
            fields.refuse("change", "FIELD_REQUIRED", "is missing, or changes nothing")
        change = fields.whole("change", request.change, at_least=-_CHANGE_LIMIT, at_most=_CHANGE_LIMIT)
    return AdjustStock(sku, change)


def _parse_reservation(request: pb.ReserveStockRequest) -> ReserveStock:
    with Fields() as fields:
        fields.request_id(request.request_id)
        reservation_id = fields.uuid("reservation_id", request.reservation_id)
        order_id = fields.uuid("order_id", request.order_id)
        lines = [_line(item, line) for item, line in fields.each("lines", request.lines, at_most=_LINES_LIMIT)]
        fields.unique("lines", "sku", [line.sku for line in lines])
        hold_seconds = fields.duration_seconds(
            "hold_duration",
            request.hold_duration,
            default=_HOLD_SECONDS,
            present=request.HasField("hold_duration"),
            at_least=1,
            at_most=_HOLD_LIMIT_SECONDS,
        )
        valid_until = fields.optional_time("valid_until", request.valid_until, present=request.HasField("valid_until"))
    in_order = tuple(sorted(lines, key=lambda line: line.sku))
    return ReserveStock(reservation_id, order_id, in_order, hold_seconds, valid_until)


def _line(fields: Fields, line: reservation_pb2.ReservationLine) -> Line:
    return Line(
        fields.sku("sku", line.sku), fields.whole("quantity", line.quantity, at_least=1, at_most=_QUANTITY_LIMIT)
    )


def _parse_commit(request: pb.CommitReservationRequest) -> CommitReservation:
    with Fields() as fields:
        fields.request_id(request.request_id)
        reservation_id = fields.uuid("reservation_id", request.reservation_id)
        order_id = fields.uuid("order_id", request.order_id)
    return CommitReservation(reservation_id, order_id)


def _parse_release(request: pb.ReleaseReservationRequest) -> ReleaseReservation:
    with Fields() as fields:
        fields.request_id(request.request_id)
        reservation_id = fields.uuid("reservation_id", request.reservation_id)
        order_id = fields.uuid("order_id", request.order_id)
    return ReleaseReservation(reservation_id, order_id)
