"""Requests that are wrong are refused by field and reason, all fields together, before any work."""

import base64
import json

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from libretto.inventory.v1 import inventory_service_pb2 as pb
from libretto.inventory.v1.reservation_pb2 import ReservationLine

from tests.integration.inventory.stockroom import Stockroom, reserve_request
from tests.rpc import new_key, new_uuid, refusal

LINE = {"LAMP": 1}

CASES: dict[str, tuple[Message, tuple[tuple[str, str], ...]]] = {
    "no sku": (pb.GetStockRequest(), (("sku", "FIELD_REQUIRED"),)),
    "a sku in small letters": (pb.GetStockRequest(sku="lamp"), (("sku", "FIELD_INVALID"),)),
    "a sku that is too long": (pb.GetStockRequest(sku="A" * 41), (("sku", "FIELD_INVALID"),)),
    "no skus": (pb.BatchGetStockRequest(), (("skus", "FIELD_REQUIRED"),)),
    "too many skus": (pb.BatchGetStockRequest(skus=["LAMP"] * 65), (("skus", "FIELD_OUT_OF_RANGE"),)),
    "one sku that is wrong": (pb.BatchGetStockRequest(skus=["LAMP", ""]), (("skus[1]", "FIELD_REQUIRED"),)),
    "nothing at all": (
        pb.AdjustStockRequest(),
        (("request_id", "FIELD_REQUIRED"), ("sku", "FIELD_REQUIRED"), ("change", "FIELD_REQUIRED")),
    ),
    "a huge change": (
        pb.AdjustStockRequest(request_id="key", sku="LAMP", change=1_000_001),
        (("change", "FIELD_OUT_OF_RANGE"),),
    ),
    "a huge write-off": (
        pb.AdjustStockRequest(request_id="key", sku="LAMP", change=-1_000_001),
        (("change", "FIELD_OUT_OF_RANGE"),),
    ),
    "a key with a blank": (
        pb.AdjustStockRequest(request_id="a key", sku="LAMP", change=1),
        (("request_id", "FIELD_INVALID"),),
    ),
    "a filter that is no uuid": (pb.ListMovementsRequest(order_id="order-1"), (("order_id", "FIELD_INVALID"),)),
    "a filter that is no sku": (pb.ListMovementsRequest(sku="lamp"), (("sku", "FIELD_INVALID"),)),
    "a negative page": (pb.ListMovementsRequest(page_size=-1), (("page_size", "FIELD_OUT_OF_RANGE"),)),
    "a token of nowhere": (
        pb.ListReservationsRequest(page_token="next"),  # noqa: S106 - no secret.
        (("page_token", "PAGE_TOKEN_INVALID"),),
    ),
    "an empty reservation": (
        pb.ReserveStockRequest(),
        (
            ("request_id", "FIELD_REQUIRED"),
            ("reservation_id", "FIELD_REQUIRED"),
            ("order_id", "FIELD_REQUIRED"),
            ("lines", "FIELD_REQUIRED"),
        ),
    ),
    "an id that is no uuid": (
        reserve_request(LINE, reservation_id="reservation-1"),
        (("reservation_id", "FIELD_INVALID"),),
    ),
    "an empty line": (
        pb.ReserveStockRequest(
            request_id="key", reservation_id=new_uuid(), order_id=new_uuid(), lines=[ReservationLine()]
        ),
        (("lines[0].sku", "FIELD_REQUIRED"), ("lines[0].quantity", "FIELD_REQUIRED")),
    ),
    "a negative quantity": (reserve_request({"LAMP": -1}), (("lines[0].quantity", "FIELD_OUT_OF_RANGE"),)),
    "a huge quantity": (reserve_request({"LAMP": 1_001}), (("lines[0].quantity", "FIELD_OUT_OF_RANGE"),)),
    "too many lines": (
        reserve_request({f"LAMP-{number}": 1 for number in range(65)}),
        (("lines", "FIELD_OUT_OF_RANGE"),),
    ),
    "a commit of nothing": (
        pb.CommitReservationRequest(),
        (
            ("request_id", "FIELD_REQUIRED"),
            ("reservation_id", "FIELD_REQUIRED"),
            ("order_id", "FIELD_REQUIRED"),
        ),
    ),
    "a release of nothing": (
        pb.ReleaseReservationRequest(),
        (
            ("request_id", "FIELD_REQUIRED"),
            ("reservation_id", "FIELD_REQUIRED"),
            ("order_id", "FIELD_REQUIRED"),
        ),
    ),
    "no reservation": (pb.GetReservationRequest(), (("reservation_id", "FIELD_REQUIRED"),)),
}


@pytest.mark.parametrize("name", CASES)
async def test_a_wrong_request_is_refused_by_its_fields(stockroom: Stockroom, name: str) -> None:
    """Each wrong field is named with its path and its reason."""
    request, fields = CASES[name]
    method = getattr(stockroom.inventory, type(request).__name__.removesuffix("Request"))

    refused = await refusal(method(request))

    assert (refused.code, refused.domain) == (grpc.StatusCode.INVALID_ARGUMENT, "common.libretto")
    assert refused.fields == fields
    assert refused.reason == fields[0][1]


async def test_a_sku_stands_in_one_line_only(stockroom: Stockroom) -> None:
    """The second line is the one that is wrong."""
    request = reserve_request(LINE)
    request.lines.append(ReservationLine(sku="LAMP", quantity=2))

    assert (await refusal(stockroom.inventory.ReserveStock(request))).fields == (("lines[1].sku", "FIELD_DUPLICATE"),)


@pytest.mark.parametrize("hold", [Duration(), Duration(nanos=999_999_999), Duration(seconds=7 * 86_400, nanos=1)])
async def test_stock_is_held_for_a_second_at_least_and_a_week_at_most(stockroom: Stockroom, hold: Duration) -> None:
    """Also when the duration is set to nothing."""
    request = reserve_request(LINE)
    request.hold_duration.CopyFrom(hold)

    assert (await refusal(stockroom.inventory.ReserveStock(request))).fields == (
        ("hold_duration", "FIELD_OUT_OF_RANGE"),
    )


async def test_a_time_that_is_none_is_refused(stockroom: Stockroom) -> None:
    """A valid_until has to lie between the years 1 and 9999."""
    request = reserve_request(LINE)
    request.valid_until.CopyFrom(Timestamp(seconds=10**15))

    assert (await refusal(stockroom.inventory.ReserveStock(request))).fields == (("valid_until", "FIELD_OUT_OF_RANGE"),)


async def test_a_forged_page_token_is_refused(stockroom: Stockroom) -> None:
    """A token that holds no number, though it is well made otherwise, reaches no query."""
    sku = await stockroom.stocked(1)
    await stockroom.inventory.AdjustStock(pb.AdjustStockRequest(request_id=new_key(), sku=sku, change=1))
    page = await stockroom.inventory.ListMovements(pb.ListMovementsRequest(sku=sku, page_size=1))

    for number in ("-1", "9" * 30, "²", "one"):
        request = pb.ListMovementsRequest(sku=sku, page_token=_forged(page.next_page_token, number))
        assert (await refusal(stockroom.inventory.ListMovements(request))).fields == (
            ("page_token", "PAGE_TOKEN_INVALID"),
        )


def _forged(token: str, number: str) -> str:
    digest, _ = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    return base64.urlsafe_b64encode(json.dumps([digest, number]).encode()).decode().rstrip("=")
