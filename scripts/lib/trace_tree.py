"""Traces read from span files: the spans of one trace, as a tree, as text, and whether any are still missing."""

import datetime as dt
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

_REFUSED_CODES: Final = frozenset(
    {"INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION", "ABORTED", "RESOURCE_EXHAUSTED"}
)
HEADER: Final = "  began      took  service, and what it did"
_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_MICROSECOND: Final = dt.timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Span:
    """One span. Ids are hexadecimal digits; a root has no parent."""

    span_id: str
    parent_id: str | None
    service: str
    name: str
    kind: str
    """SERVER, CLIENT, INTERNAL …"""
    start: dt.datetime
    end: dt.datetime
    failed: bool
    """Whether it is marked as a fault."""
    attributes: Mapping[str, Any]

    @property
    def duration_ms(self) -> float:
        """How long it took, in milliseconds."""
        return (self.end - self.start) / _MICROSECOND / 1000

    @property
    def outcome(self) -> str:
        """How it ended: a gRPC code, an HTTP status or a reason; empty for work that cannot say."""
        for name in ("libretto.reason", "rpc.response.status_code", "http.response.status_code"):
            if name in self.attributes:
                return str(self.attributes[name])
        return ""

    @property
    def refused(self) -> bool:
        """Whether the answer was no, which is no fault."""
        return "libretto.reason" in self.attributes or self.outcome in _REFUSED_CODES or self._payment_refused

    @property
    def _payment_refused(self) -> bool:
        return str(self.attributes.get("http.response.status_code", "")) in {"402", "409"}


@dataclass(frozen=True, slots=True)
class Node:
    """A span and what it led to, in order of their starts."""

    span: Span
    children: "tuple[Node, ...]"

    def walk(self) -> Iterator[Span]:
        """Yield the spans of the tree, each parent before its children."""
        yield self.span
        for child in self.children:
            yield from child.walk()


def read_spans(folder: Path, trace_id: str) -> list[Span]:
    """Read the spans of one trace from all span files of a folder, in order of their starts.

    A line that is being written at this moment is left for the next time.
    """
    lines = [line for file in folder.glob("*.jsonl*") for line in file.read_text().splitlines(keepends=True)]
    spans = [_span(json.loads(line)) for line in lines if trace_id in line and line.endswith("\n")]
    return sorted(spans, key=lambda span: (span.start, span.span_id))


def missing(spans: Sequence[Span], expected: Sequence[tuple[str, str]]) -> list[str]:
    """Say what a complete trace would have besides, nothing when it is complete.

    That is a root, the parent of each span, and for each pair of `expected` a server span of that service and name.
    """
    known = {span.span_id for span in spans}
    served = {(span.service, span.name) for span in spans if span.kind == "SERVER"}
    lost = [] if any(span.parent_id is None for span in spans) else ["a root"]
    lost += [
        f"the parent of {span.name}" for span in spans if span.parent_id is not None and span.parent_id not in known
    ]
    return lost + [f"{name} in {service}" for service, name in expected if (service, name) not in served]


def trees(spans: Sequence[Span]) -> list[Node]:
    """Put spans together: a tree for each root, as there is one in a complete trace."""
    known = {span.span_id for span in spans}
    children: dict[str | None, list[Span]] = {}
    for span in spans:
        children.setdefault(span.parent_id if span.parent_id in known else None, []).append(span)

    def node(span: Span) -> Node:
        return Node(span, tuple(node(child) for child in children.get(span.span_id, ())))

    return [node(root) for root in children.get(None, ())]


def render(tree: Node) -> list[tuple[Span, str]]:
    """Return each span of a tree with its line: when it began and how long it took, service, name, and how it ended.

    HEADER fits above the lines.
    """
    rows = list(_rows(tree, "", ""))
    width = max(len(label) for _, label in rows)
    services = max(len(span.service) for span, _ in rows)
    lines = []
    for span, label in rows:
        began_ms = (span.start - tree.span.start) / _MICROSECOND / 1000
        times = f"{began_ms:7.1f} {span.duration_ms:7.1f} ms"
        lines.append((span, f"{times}  {span.service:{services}}  {label:{width}}  {_verdict(span)}".rstrip()))
    return lines


def _rows(node: Node, first: str, others: str) -> Iterator[tuple[Span, str]]:
    yield node.span, first + _label(node.span)
    for number, child in enumerate(node.children, start=1):
        last = number == len(node.children)
        yield from _rows(child, others + ("└─ " if last else "├─ "), others + ("   " if last else "│  "))


def _label(span: Span) -> str:
    name = span.name.rpartition(".")[2]
    if span.kind == "CLIENT":
        path = urlsplit(str(span.attributes.get("url.full", ""))).path
        return f"→ {name} {_UUID.sub('…', path)}".rstrip()
    return name


def _verdict(span: Span) -> str:
    if span.failed:
        return f"FAILED {span.outcome}".rstrip()
    return f"refused: {span.outcome}" if span.refused else span.outcome


def _span(record: Mapping[str, Any]) -> Span:
    return Span(
        span_id=record["context"]["span_id"].removeprefix("0x"),
        parent_id=record["parent_id"].removeprefix("0x") if record["parent_id"] else None,
        service=record["resource"]["attributes"]["service.name"],
        name=record["name"],
        kind=record["kind"].removeprefix("SpanKind."),
        start=dt.datetime.fromisoformat(record["start_time"]),
        end=dt.datetime.fromisoformat(record["end_time"]),
        failed=record["status"]["status_code"] == "ERROR",
        attributes=record["attributes"],
    )
