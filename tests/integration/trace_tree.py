"""The tree of a trace's spans as text, one line a span, so that a test can state it and compare it for equality.

A line tells the service, the kind and the name, then how it ended where it says so (a gRPC code, an HTTP status, or
`no` and the reason of a step), and ERROR where the span is red. What a span led to is indented below it, sorted.
"""

import textwrap
from collections.abc import Iterator, Sequence

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import StatusCode, format_trace_id

from tests.integration.checkout.shopping import until
from tests.shop import Shop

_PACKAGE = "libretto."


def spans_of(shop: Shop, trace_id: str) -> list[ReadableSpan]:
    """Return the spans of a trace that have ended."""
    return [
        span
        for span in shop.spans.get_finished_spans()
        if span.context is not None and format_trace_id(span.context.trace_id) == trace_id
    ]


async def traced(shop: Shop, trace_id: str, count: int) -> list[ReadableSpan]:
    """Wait until so many spans of a trace have ended, for a bounded time, and return them."""

    async def there() -> bool:
        return len(spans_of(shop, trace_id)) >= count

    await until(there)
    return spans_of(shop, trace_id)


def tree(spans: Sequence[ReadableSpan]) -> str:
    """Write the tree of some spans; those whose parent is not among them are its roots."""
    known = {span.context.span_id for span in spans if span.context is not None}
    roots = [span for span in spans if span.parent is None or span.parent.span_id not in known]
    return "".join(f"{line}\n" for line in _lines(spans, roots))


def stated(text: str) -> str:
    """Return a tree as a test states it, without the indentation of the test's source."""
    return textwrap.dedent(text).lstrip("\n")


def _lines(spans: Sequence[ReadableSpan], siblings: Sequence[ReadableSpan]) -> Iterator[str]:
    for span in sorted(siblings, key=_line):
        yield _line(span)
        children = [child for child in spans if child.parent and child.parent.span_id == _id(span)]
        yield from (f"    {line}" for line in _lines(spans, children))


def _id(span: ReadableSpan) -> int | None:
    return span.context.span_id if span.context is not None else None


def _line(span: ReadableSpan) -> str:
    attributes = span.attributes or {}
    reason = attributes.get("libretto.reason")
    parts = [
        span.resource.attributes["service.name"],
        span.kind.name,
        span.name.removeprefix(_PACKAGE),
        attributes.get("rpc.response.status_code"),
        attributes.get("http.response.status_code"),
        f"no {reason}" if reason else None,
        "ERROR" if span.status.status_code is StatusCode.ERROR else None,
    ]
    return " ".join(str(part) for part in parts if part is not None)
