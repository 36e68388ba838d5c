"""The demo, as people start it: what it tells must be true, and nothing may be left of it."""

import json
import signal
import subprocess
import sys
from http.client import HTTPConnection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.protobuf.json_format import MessageToDict, ParseDict
from google.type.money_pb2 import Money
from libretto.checkout.v1 import checkout_service_pb2, checkout_service_pb2_grpc
from libretto.inventory.v1 import inventory_service_pb2, inventory_service_pb2_grpc
from libretto.payment.v1 import payment_service_pb2, payment_service_pb2_grpc

from scripts.lib.tools import ROOT
from services.common.fields import read_money
from tests.e2e.script import END_SECONDS, Script, temporary_folder

if TYPE_CHECKING:
    from libretto.checkout.v1.checkout_service_pb2_grpc import CheckoutServiceAsyncStub
    from libretto.inventory.v1.inventory_service_pb2_grpc import InventoryServiceAsyncStub
    from libretto.payment.v1.payment_service_pb2_grpc import PaymentServiceAsyncStub

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="only Linux has /proc and parent-death signals"),
    pytest.mark.timeout(120),  # The whole shop starts, beside other tests.
]

Data = dict[str, Any]
CALL_SECONDS = 5.0


async def test_the_transcript_agrees_with_what_the_services_and_the_processor_answer() -> None:
    """A kept demo is asked again, by calls of our own and by its own lines; Ctrl-C then closes all of it."""
    with temporary_folder() as temporary:
        file = temporary / "transcript.json"
        demo = Script("demo", "--keep", "--transcript", str(file), temporary=temporary)
        try:
            demo.read_until("The shop stays open until Ctrl-C")
            transcript = json.loads(file.read_text())
            steps = {step["name"]: step for step in transcript["steps"]}
            _the_story_is_as_promised(steps)
            await _orders_and_payments_agree(transcript, steps)
            await _stock_agrees(transcript, steps)
            _the_ledger_agrees(transcript, temporary)
            _the_order_has_one_trace(transcript["traces"]["order"], steps["order"]["answer"]["order"])
            _its_lines_can_be_pasted(demo.output, steps["get_order"])
            file.unlink()
            assert demo.end_with(signal.SIGINT) == 0
        finally:
            demo.kill()
        assert "The shop is closed" in demo.output
        assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("moment", ["Opening the shop", "3. A quote"])
def test_sigterm_in_the_middle_closes_everything(moment: str) -> None:
    """No process and no file is left, and the exit status says what ended it."""
    with temporary_folder() as temporary:
        demo = Script("demo", temporary=temporary)
        try:
            demo.read_until(moment)
            assert demo.end_with(signal.SIGTERM) == 128 + signal.SIGTERM
        finally:
            demo.kill()
        assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("moment", ["Opening the shop", "3. A quote"])
def test_sigkill_in_the_middle_leaves_no_process(moment: str) -> None:
    """The demo itself can do nothing any more: the kernel ends what it started."""
    with temporary_folder() as temporary:
        demo = Script("demo", temporary=temporary)
        try:
            demo.read_until(moment)
            assert demo.end_with(signal.SIGKILL) == -signal.SIGKILL
        finally:
            demo.kill()


def test_a_failure_is_told_in_a_sentence_with_the_place_of_the_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that cannot start is named, with the last lines of its log, and everything else is stopped."""
    monkeypatch.setenv("LIBRETTO_PRICING_NO_SUCH_SETTING", "1")
    with temporary_folder() as temporary:
        demo = Script("demo", temporary=temporary)
        try:
            demo.read_until("Its folder is kept")
            assert demo.process.wait(END_SECONDS) == 1
        finally:
            demo.kill()
        (folder,) = temporary.iterdir()
        assert "The demo failed: pricing ended with exit code 1." in demo.output
        assert "LIBRETTO_PRICING_NO_SUCH_SETTING is no setting" in demo.output
        assert f"{folder} (the logs are in logs/)" in demo.output


def _the_story_is_as_promised(steps: dict[str, Data]) -> None:
    """Each step ended as the demo says, and what was asked twice was answered twice with the same bytes."""
    assert "libretto.checkout.v1.CheckoutService" in steps["list_services"]["stdout"].splitlines()
    assert steps["order"]["answer"]["order"]["state"] == "ORDER_STATE_CONFIRMED"
    assert steps["order_again"]["arguments"] == steps["order"]["arguments"]
    assert steps["order_again"]["stdout"] == steps["order"]["stdout"]
    reasons = {
        name: (step["refusal"]["code"], step["refusal"]["reason"]) for name, step in steps.items() if step["refusal"]
    }
    assert reasons == {
        "refused_card": ("FailedPrecondition", "CARD_DECLINED"),
        "sold_out": ("FailedPrecondition", "OUT_OF_STOCK"),
    }
    assert steps["another_card"]["answer"]["order"]["quoteId"] == steps["quote_boris"]["answer"]["quote"]["quoteId"]
    assert steps["sold_out"]["refusal"]["metadata"]["available"] == "0"


async def _orders_and_payments_agree(transcript: Data, steps: dict[str, Data]) -> None:
    """GetOrder and GetPayment still answer what the transcript holds, and ids and sums are the same in both."""
    addresses = transcript["addresses"]
    async with (
        grpc.aio.insecure_channel(addresses["checkout"]) as checkout_channel,
        grpc.aio.insecure_channel(addresses["payment"]) as payment_channel,
    ):
        checkout: CheckoutServiceAsyncStub = checkout_service_pb2_grpc.CheckoutServiceStub(checkout_channel)
        payments: PaymentServiceAsyncStub = payment_service_pb2_grpc.PaymentServiceStub(payment_channel)
        states = []
        for booking in transcript["bookings"]["orders"]:
            order_request = checkout_service_pb2.GetOrderRequest(order_id=booking["order"]["orderId"])
            order = (await checkout.GetOrder(order_request, timeout=CALL_SECONDS)).order
            payment_request = payment_service_pb2.GetPaymentRequest(payment_id=order.payment_id)
            payment = (await payments.GetPayment(payment_request, timeout=CALL_SECONDS)).payment
            assert MessageToDict(order) == booking["order"]
            assert MessageToDict(payment) == booking["payment"]
            assert payment.order_id == order.order_id
            assert payment.amount == order.total
            line_minors = [read_money(line.unit_price).minor * line.quantity for line in order.lines]
            assert sum(line_minors) == read_money(order.total).minor
            states.append((booking["order"]["state"], booking["payment"]["state"]))
    assert states == [
        ("ORDER_STATE_COMPLETED", "PAYMENT_STATE_CAPTURED"),
        ("ORDER_STATE_REJECTED", "PAYMENT_STATE_DECLINED"),
        ("ORDER_STATE_COMPLETED", "PAYMENT_STATE_CAPTURED"),
        ("ORDER_STATE_REJECTED", "PAYMENT_STATE_VOIDED"),
    ]
    first = transcript["bookings"]["orders"][0]
    shown_order = ParseDict(steps["get_order"]["answer"], checkout_service_pb2.GetOrderResponse()).order
    shown_payment = ParseDict(steps["get_payment"]["answer"], payment_service_pb2.GetPaymentResponse()).payment
    assert MessageToDict(shown_order) == first["order"]
    assert MessageToDict(shown_payment) == first["payment"]


async def _stock_agrees(transcript: Data, steps: dict[str, Data]) -> None:
    """GetStock still answers what the transcript holds, and what was sold is what the completed orders have."""
    ordered: dict[str, int] = {}
    for booking in transcript["bookings"]["orders"]:
        if booking["order"]["state"] == "ORDER_STATE_COMPLETED":
            for line in booking["order"]["lines"]:
                ordered[line["sku"]] = ordered.get(line["sku"], 0) + line["quantity"]
    async with grpc.aio.insecure_channel(transcript["addresses"]["inventory"]) as channel:
        inventory: InventoryServiceAsyncStub = inventory_service_pb2_grpc.InventoryServiceStub(channel)
        for told in transcript["bookings"]["stock"]:
            request = inventory_service_pb2.GetStockRequest(sku=told["sku"])
            answer = await inventory.GetStock(request, timeout=CALL_SECONDS)
            assert MessageToDict(answer.stock_level) == told
            assert MessageToDict(answer) == steps[f"get_stock_{told['sku']}"]["answer"]
            assert answer.stock_level.sold == ordered[told["sku"]]
            assert answer.stock_level.available == answer.stock_level.received - answer.stock_level.sold
    assert ordered == {"BATON-OAK": 2, "GLASSES-BRASS": 1, "SCORE-FLUTE": 1}


def _the_ledger_agrees(transcript: Data, temporary: Path) -> None:
    """The processor's own ledger, asked with the shop's key, has what the transcript holds, and nothing besides."""
    (secrets,) = temporary.glob("libretto-*/secrets.json")
    key = json.loads(secrets.read_text())["card_processor"]
    connection = HTTPConnection(transcript["addresses"]["card_processor"], timeout=CALL_SECONDS)
    connection.request("GET", "/v1/ledger", headers={"Authorization": f"Bearer {key}"})
    entries = json.loads(connection.getresponse().read())["entries"]
    connection.close()
    told = [
        (booking["payment"]["paymentId"], entry["kind"], entry["amount_minor"])
        for booking in transcript["bookings"]["orders"]
        for entry in booking["ledger"]
    ]
    assert sorted((entry["authorization_id"], entry["kind"], entry["amount_minor"]) for entry in entries) == sorted(
        told
    )
    captured = {payment_id: amount for payment_id, kind, amount in told if kind == "captured"}
    completed = [
        order for order in transcript["bookings"]["orders"] if order["order"]["state"] == "ORDER_STATE_COMPLETED"
    ]
    totals = {
        booking["payment"]["paymentId"]: read_money(ParseDict(booking["order"]["total"], Money())).minor
        for booking in completed
    }
    assert captured == totals


def _the_order_has_one_trace(tree: Data, order: Data) -> None:
    """One tree with the order's call at its root and every participant in it; no child began before its parent."""
    served = []

    def walk(node: Data) -> None:
        assert not node["failed"]
        if node["kind"] == "SERVER":
            served.append((node["service"], node["name"].rpartition("/")[2]))
        for child in node["children"]:
            assert child["start"] >= node["start"]
            walk(child)

    walk(tree)
    assert served[0] == ("checkout", "PlaceOrder")
    assert sorted(served[1:]) == [
        ("inventory", "CommitReservation"),
        ("inventory", "ReserveStock"),
        ("payment", "AuthorizePayment"),
        ("payment", "CapturePayment"),
        ("pricing", "GetQuote"),
    ]
    assert len(order["traceId"]) == 32


def _its_lines_can_be_pasted(output: str, step: Data) -> None:
    """What is printed is a whole line for a shell, and answers now what it answered then."""
    assert f"\n{step['line']}\n" in output
    pasted = subprocess.run(
        ["/bin/sh", "-c", step["line"]], cwd=ROOT, capture_output=True, text=True, check=True, timeout=END_SECONDS
    )
    assert pasted.stdout == step["stdout"]
