"""Levels and what moves them, over gRPC."""

from itertools import pairwise

import grpc
from google.protobuf import json_format
from google.rpc import error_details_pb2
from libretto.inventory.v1.inventory_service_pb2 import (
    AdjustStockRequest,
    BatchGetStockRequest,
    GetStockRequest,
    ListMovementsRequest,
)
from libretto.inventory.v1.stock_pb2 import StockMovement, StockMovementKind

from tests.integration.inventory.stockroom import Stockroom, commit_request, release_request
from tests.rpc import new_key, new_sku, new_uuid, refusal


async def test_a_first_adjustment_makes_a_sku_known(stockroom: Stockroom) -> None:
    """What came in is available at once, and the answer is the level."""
    sku = new_sku()

    response = await stockroom.inventory.AdjustStock(AdjustStockRequest(request_id=new_key(), sku=sku, change=7))

    level = (await stockroom.inventory.GetStock(GetStockRequest(sku=sku))).stock_level
    assert response.stock_level == level
    assert (level.sku, level.available, level.reserved, level.sold, level.received) == (sku, 7, 0, 0, 7)
    assert level.HasField("update_time")


async def test_an_unknown_sku_is_not_found_and_stays_unknown(stockroom: Stockroom) -> None:
    """Reading it and writing off from it are refused alike."""
    sku = new_sku()

    for call in (
        stockroom.inventory.GetStock(GetStockRequest(sku=sku)),
        stockroom.inventory.AdjustStock(AdjustStockRequest(request_id=new_key(), sku=sku, change=-1)),
        stockroom.inventory.GetStock(GetStockRequest(sku=sku)),
    ):
        refused = await refusal(call)
        assert (refused.code, refused.reason) == (grpc.StatusCode.NOT_FOUND, "SKU_NOT_FOUND")
        assert (refused.domain, refused.metadata) == ("inventory.libretto", {"sku": sku})


async def test_no_more_is_written_off_than_is_available(stockroom: Stockroom) -> None:
    """Held pieces stay: of ten, four of which are reserved, six can go."""
    sku = await stockroom.stocked(10)
    await stockroom.reserved({sku: 4})

    refused = await refusal(
        stockroom.inventory.AdjustStock(AdjustStockRequest(request_id=new_key(), sku=sku, change=-7))
    )
    assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "ADJUSTMENT_IMPOSSIBLE")
    assert refused.metadata == {"sku": sku, "available": "6"}

    await stockroom.inventory.AdjustStock(AdjustStockRequest(request_id=new_key(), sku=sku, change=-6))
    assert await stockroom.level(sku) == (0, 4, 0, 4)


async def test_a_level_never_passes_its_limit(stockroom: Stockroom) -> None:
    """A shelf that is nearly full takes what fits, and not one piece more."""
    sku = await stockroom.stocked(1)
    await stockroom.execute(
        "WITH moved AS (UPDATE stock_movements SET available_change = 999999999000 WHERE sku = $1)"
        " UPDATE stock SET available = 999999999000, received = 999999999000 WHERE sku = $1",
        sku,
    )

    refused = await refusal(
        stockroom.inventory.AdjustStock(AdjustStockRequest(request_id=new_key(), sku=sku, change=1_000))
    )
    assert refused.reason == "ADJUSTMENT_IMPOSSIBLE"
    await stockroom.inventory.AdjustStock(AdjustStockRequest(request_id=new_key(), sku=sku, change=999))
    assert await stockroom.level(sku) == (999_999_999_999, 0, 0, 999_999_999_999)


async def test_a_batch_answers_each_sku_in_its_place(stockroom: Stockroom) -> None:
    """One that is unknown fails alone, one that is asked for twice is answered twice."""
    known, other, unknown = await stockroom.stocked(3), await stockroom.stocked(4), new_sku()

    response = await stockroom.inventory.BatchGetStock(BatchGetStockRequest(skus=[known, unknown, other, known]))

    assert [result.WhichOneof("result") for result in response.results] == [
        "stock_level",
        "status",
        "stock_level",
        "stock_level",
    ]
    assert [result.stock_level.available for result in response.results] == [3, 0, 4, 3]
    info = error_details_pb2.ErrorInfo()
    assert response.results[1].status.details[0].Unpack(info)
    assert (response.results[1].status.code, info.reason) == (grpc.StatusCode.NOT_FOUND.value[0], "SKU_NOT_FOUND")


async def test_movements_tell_the_story_of_a_sku(stockroom: Stockroom) -> None:
    """Oldest first, each with what is behind it; together they are the level."""
    sku = await stockroom.stocked(10)
    sold, given_back = await stockroom.reserved({sku: 2}), await stockroom.reserved({sku: 3})
    await stockroom.inventory.CommitReservation(commit_request(sold))
    await stockroom.inventory.ReleaseReservation(release_request(given_back))
    lost = await stockroom.expired({sku: 4})
    await stockroom.inventory.CommitReservation(commit_request(lost))

    movements = (await stockroom.inventory.ListMovements(ListMovementsRequest(sku=sku))).movements

    assert [_told(movement) for movement in movements] == [
        ("ADJUSTED", 10, 0, 0, ""),
        ("RESERVED", -2, 2, 0, sold.reservation_id),
        ("RESERVED", -3, 3, 0, given_back.reservation_id),
        ("COMMITTED", 0, -2, 2, sold.reservation_id),
        ("RELEASED", 3, -3, 0, given_back.reservation_id),
        ("RESERVED", -4, 4, 0, lost.reservation_id),
        ("EXPIRED", 4, -4, 0, lost.reservation_id),
        ("COMMITTED", -4, 0, 4, lost.reservation_id),
    ]
    assert len({movement.movement_id for movement in movements}) == len(movements)
    assert all(one.create_time.ToDatetime() <= two.create_time.ToDatetime() for one, two in pairwise(movements))
    assert await stockroom.level(sku) == (4, 0, 6, 10)


async def test_movements_are_filtered_by_sku_and_by_order_together(stockroom: Stockroom) -> None:
    """Each filter narrows what the other leaves."""
    one, two = await stockroom.stocked(5), await stockroom.stocked(5)
    reservation = await stockroom.reserved({one: 1, two: 2})
    await stockroom.reserved({one: 3})

    async def changes(request: ListMovementsRequest) -> list[int]:
        return [movement.available_change for movement in (await stockroom.inventory.ListMovements(request)).movements]

    assert await changes(ListMovementsRequest(sku=one)) == [5, -1, -3]
    assert sorted(await changes(ListMovementsRequest(order_id=reservation.order_id))) == [-2, -1]
    assert await changes(ListMovementsRequest(sku=two, order_id=reservation.order_id)) == [-2]
    assert await changes(ListMovementsRequest(sku=two, order_id=new_uuid())) == []
    assert len(await changes(ListMovementsRequest(page_size=4))) == 4


async def test_pages_of_movements_go_on_where_the_last_one_ended(stockroom: Stockroom) -> None:
    """Also while movements are added; and a token serves its own filter only."""
    sku = await stockroom.stocked(1)
    for _ in range(4):
        await stockroom.inventory.AdjustStock(AdjustStockRequest(request_id=new_key(), sku=sku, change=1))
    whole = (await stockroom.inventory.ListMovements(ListMovementsRequest(sku=sku))).movements

    first = await stockroom.inventory.ListMovements(ListMovementsRequest(sku=sku, page_size=2))
    await stockroom.inventory.AdjustStock(AdjustStockRequest(request_id=new_key(), sku=sku, change=1))
    rest = await stockroom.inventory.ListMovements(
        ListMovementsRequest(sku=sku, page_size=4, page_token=first.next_page_token)
    )

    assert [*first.movements, *rest.movements][:5] == list(whole)
    assert len(rest.movements) == 4
    assert rest.next_page_token == ""
    refused = await refusal(stockroom.inventory.ListMovements(ListMovementsRequest(page_token=first.next_page_token)))
    assert refused.fields == (("page_token", "PAGE_TOKEN_INVALID"),)


def _told(movement: StockMovement) -> tuple[str, int, int, int, str]:
    kind = StockMovementKind.Name(movement.kind).removeprefix("STOCK_MOVEMENT_KIND_")
    assert bool(movement.order_id) == bool(movement.reservation_id), json_format.MessageToJson(movement)
    return (kind, movement.available_change, movement.reserved_change, movement.sold_change, movement.reservation_id)
