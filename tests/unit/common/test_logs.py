"""Log lines: JSON on standard error, with the service's name and the present trace."""

import json
import logging
from collections.abc import Iterator

import pytest
import structlog
from opentelemetry.sdk.trace import TracerProvider

from services.common import logs

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    """Take back what a test configures."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def written(capsys: Capture) -> list[dict[str, str]]:
    """Return what was written to standard error: a JSON object a line."""
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_a_log_line_is_one_json_object(capsys: Capture) -> None:
    """With module, service, level, time and what is logged."""
    logs.configure("catalog")
    logs.get_logger("services.catalog.store").info("product created", product_id="42")
    (found,) = written(capsys)
    assert found.pop("timestamp").endswith("Z")
    assert found == {
        "event": "product created",
        "level": "info",
        "module": "services.catalog.store",
        "product_id": "42",
        "service": "catalog",
    }


@pytest.mark.parametrize(("level", "expected"), [("DEBUG", "diwe"), ("INFO", "iwe"), ("WARNING", "we"), ("ERROR", "e")])
def test_less_than_the_level_is_not_logged(capsys: Capture, level: str, expected: str) -> None:
    """The level itself is."""
    logs.configure("catalog", level)
    log = logs.get_logger("test")
    log.debug("d")
    log.info("i")
    log.warning("w")
    log.error("e")
    assert "".join(line["event"] for line in written(capsys)) == expected


def test_a_line_within_a_span_has_its_ids(capsys: Capture) -> None:
    """So that a trace leads to its logs; outside there are none."""
    logs.configure("catalog")
    log = logs.get_logger("test")
    with TracerProvider(shutdown_on_exit=False).get_tracer("test").start_as_current_span("work") as span:
        log.info("inside")
    log.info("outside")
    inside, outside = written(capsys)
    context = span.get_span_context()
    assert (inside["trace_id"], inside["span_id"]) == (f"{context.trace_id:032x}", f"{context.span_id:016x}")
    assert "trace_id" not in outside


def test_a_library_s_words_stay_out_of_the_logs(capsys: Capture) -> None:
    """They may quote a caller, who would write lines of his own that way: only the place and the level are told."""
    logs.configure("catalog")
    logging.getLogger("opentelemetry.trace").warning("Invalid: %s", 'x\n{"event":"fake admin login"}')
    (found,) = written(capsys)
    assert (found["event"], found["module"], found["level_of_library"]) == ("library", "opentelemetry.trace", "WARNING")
    assert "fake" not in str(found)
