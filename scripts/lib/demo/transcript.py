"""The demo as data: what was called and answered, the traces, and what was booked where."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from scripts.lib.demo.bookings import Books
from scripts.lib.demo.grpcurl import Call
from scripts.lib.trace_tree import Node


@dataclass(slots=True)
class Transcript:
    """What is kept of a demo."""

    addresses: dict[str, str]
    """Where each service listened, and the card processor."""
    steps: list[dict[str, Any]] = field(default_factory=list)
    """Each grpcurl call: name, arguments, line, stdout, stderr, exit_code, and its answer or its refusal."""
    traces: dict[str, dict[str, Any]] = field(default_factory=dict)
    """The tree of spans of some steps, by the step's name."""
    bookings: dict[str, Any] = field(default_factory=dict)
    """Orders with their payments and ledger entries, and stock levels."""

    def add_call(self, name: str, call: Call) -> None:
        """Keep a call that was answered with JSON or refused, or one of another kind, such as `list`."""
        refused, is_rpc = call.exit_code != 0, "/" in call.arguments[-1]
        self.steps.append(
            {
                "name": name,
                **asdict(call),
                "line": call.line,
                "answer": call.answer if is_rpc and not refused else None,
                "refusal": asdict(call.refusal) if refused else None,
            }
        )

    def add_trace(self, name: str, tree: Node) -> None:
        """Keep the trace of a step."""
        self.traces[name] = _tree(tree)

    def add_books(self, books: Books) -> None:
        """Keep what was booked."""
        self.bookings = books.as_data()

    def write(self, file: Path) -> None:
        """Write it all as JSON. Raises OSError."""
        file.write_text(json.dumps(asdict(self), ensure_ascii=False, indent=2) + "\n")


def _tree(node: Node) -> dict[str, Any]:
    span = node.span
    return {
        "span_id": span.span_id,
        "service": span.service,
        "name": span.name,
        "kind": span.kind,
        "start": span.start.isoformat(),
        "duration_ms": span.duration_ms,
        "outcome": span.outcome,
        "refused": span.refused,
        "failed": span.failed,
        "children": [_tree(child) for child in node.children],
    }
