"""Structured logs: one JSON object a line on standard error, with the ids of the present trace.

Call `configure` once a process. Log ids, states, counts and times; never a name, an address, an e-mail or a token.
"""

import logging
import sys
from collections.abc import MutableMapping
from typing import Any, cast

import structlog
from opentelemetry import trace


def configure(service: str, level: str = "INFO") -> None:
    """Send logs of a level and above to standard error, each with its service's name."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            _add_trace,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(service=service)
    logging.basicConfig(handlers=[_LibraryHandler()], level=logging.WARNING, force=True)


def get_logger(name: str) -> structlog.typing.FilteringBoundLogger:
    """Return the logger of a module."""
    return cast("structlog.typing.FilteringBoundLogger", structlog.get_logger(module=name))


class _LibraryHandler(logging.Handler):
    """Says that a library had something to say, and where: its words may be a caller's, and stay out."""

    def emit(self, record: logging.LogRecord) -> None:
        """Log the place and the level of a record."""
        get_logger(record.name).warning("library", level_of_library=record.levelname, line=record.lineno)


def _add_trace(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    span = trace.get_current_span().get_span_context()
    if span.is_valid:
        event["trace_id"] = trace.format_trace_id(span.trace_id)
        event["span_id"] = trace.format_span_id(span.span_id)
    return event
