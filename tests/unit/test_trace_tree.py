"""Traces from span files: what is read, when a trace is complete, and how its tree looks."""

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from scripts.lib.trace_tree import missing, read_spans, render, trees

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
PLACE_ORDER = "libretto.checkout.v1.CheckoutService/PlaceOrder"
RESERVE_STOCK = "libretto.inventory.v1.InventoryService/ReserveStock"


def _line(
    span_id: str,
    parent_id: str | None,
    name: str,
    milliseconds: tuple[int, int],
    *,
    service: str = "checkout",
    kind: str = "INTERNAL",
    attributes: Mapping[str, object] = MappingProxyType({}),
    trace_id: str = TRACE_ID,
    status: str = "UNSET",
) -> str:
    """Write a span as the services write it."""
    start, end = (f"2026-01-02T03:04:05.{value:03d}000Z" for value in milliseconds)
    record: dict[str, object] = {
        "name": name,
        "context": {"trace_id": f"0x{trace_id}", "span_id": f"0x{span_id}", "trace_state": "[]"},
        "kind": f"SpanKind.{kind}",
        "parent_id": f"0x{parent_id}" if parent_id else None,
        "start_time": start,
        "end_time": end,
        "status": {"status_code": status},
        "attributes": dict(attributes),
        "events": [],
        "links": [],
        "resource": {"attributes": {"service.name": service}, "schema_url": ""},
    }
    return json.dumps(record) + "\n"


def _write_refused_order(folder: Path) -> None:
    """Write the spans of an order that found nothing in stock, and one of another trace."""
    refused = {"rpc.response.status_code": "FAILED_PRECONDITION"}
    checkout = [
        _line("a2", "a1", "saga", (10, 90)),
        _line("a3", "a2", RESERVE_STOCK, (20, 60), kind="CLIENT"),
        _line("a1", None, PLACE_ORDER, (0, 80), kind="SERVER", attributes=refused),
        _line("ff", None, PLACE_ORDER, (0, 80), trace_id="1" * 32),
    ]
    (folder / "checkout.jsonl").write_text("".join(checkout))
    served = _line("b1", "a3", RESERVE_STOCK, (30, 50), service="inventory", kind="SERVER", attributes=refused)
    (folder / "inventory.jsonl").write_text(served)


def test_spans_of_one_trace_are_read_from_all_files_and_put_together(tmp_path: Path) -> None:
    """In order of their starts, whatever the order in which they were written."""
    _write_refused_order(tmp_path)
    (tree,) = trees(read_spans(tmp_path, TRACE_ID))
    assert [span.span_id for span in tree.walk()] == ["a1", "a2", "a3", "b1"]
    assert tree.span.duration_ms == 80.0


def test_a_line_that_is_being_written_is_left_for_the_next_time(tmp_path: Path) -> None:
    """Half a line is no span yet, and no error."""
    (tmp_path / "checkout.jsonl").write_text(_line("a1", None, PLACE_ORDER, (0, 1))[:-1])
    assert read_spans(tmp_path, TRACE_ID) == []


def test_what_a_trace_lacks_is_told(tmp_path: Path) -> None:
    """A root, a parent, a server span of a service that must have been called."""
    expected = [("checkout", PLACE_ORDER), ("inventory", RESERVE_STOCK)]
    assert missing([], expected) == ["a root", f"{PLACE_ORDER} in checkout", f"{RESERVE_STOCK} in inventory"]
    (tmp_path / "inventory.jsonl").write_text(
        _line("b1", "a3", RESERVE_STOCK, (3, 5), service="inventory", kind="SERVER")
    )
    lost = missing(read_spans(tmp_path, TRACE_ID), expected)
    assert lost == ["a root", f"the parent of {RESERVE_STOCK}", f"{PLACE_ORDER} in checkout"]
    _write_refused_order(tmp_path)
    assert missing(read_spans(tmp_path, TRACE_ID), expected) == []


def test_the_tree_as_text_has_times_and_marks_refusals(tmp_path: Path) -> None:
    """One line a span; a refusal is not shown as a failure."""
    _write_refused_order(tmp_path)
    (tree,) = trees(read_spans(tmp_path, TRACE_ID))
    assert [line for _, line in render(tree)] == [
        "    0.0    80.0 ms  checkout   CheckoutService/PlaceOrder              refused: FAILED_PRECONDITION",
        "   10.0    80.0 ms  checkout   └─ saga",
        "   20.0    40.0 ms  checkout      └─ → InventoryService/ReserveStock",
        "   30.0    20.0 ms  inventory        └─ InventoryService/ReserveStock  refused: FAILED_PRECONDITION",
    ]


def test_a_fault_of_ours_is_shown_as_a_failure(tmp_path: Path) -> None:
    """And a call to an outside party by its method and path, without ids."""
    path = "http://127.0.0.1:1/v1/authorizations/0b2f6c1e-5e0b-5c5e-9d0a-0123456789ab/capture"
    attributes = {"url.full": path, "http.response.status_code": 503}
    line = _line("c1", None, "POST", (0, 7), service="payment", kind="CLIENT", attributes=attributes, status="ERROR")
    (tmp_path / "payment.jsonl").write_text(line)
    (tree,) = trees(read_spans(tmp_path, TRACE_ID))
    assert [line for _, line in render(tree)] == [
        "    0.0     7.0 ms  payment  → POST /v1/authorizations/…/capture  FAILED 503"
    ]
