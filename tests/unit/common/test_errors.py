"""Domain errors as statuses, statuses as typed errors, and what a caller may see of a fault of ours."""

import asyncio
from typing import cast

import grpc
import pytest
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from structlog.testing import capture_logs

from services.common import errors, values
from services.common.errors import RemoteError, StatusError, to_status
from services.common.layers import Context, Handler, Method
from services.common.values import DomainError, ErrorKind, InvalidRequestError, Violation

METHOD = Method("libretto.test.v1.TestService/Test", 1.0)
NO_CONTEXT = cast("Context", None)
SECRET = "Ada Lovelace, 4111111111111111"  # noqa: S105 - what tests look for where it must not be.


class PaintingSoldError(DomainError):
    """A refusal of a service's own."""

    kind, service, reason = ErrorKind.REFUSED, "gallery", "PAINTING_SOLD"


def info_of(status: status_pb2.Status) -> error_details_pb2.ErrorInfo:
    """Return a status' ErrorInfo, which must be its first detail."""
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    return info


def remote(code: int, *details: Message, message: str = "No.") -> RemoteError:
    """Make what another service answered."""
    status = status_pb2.Status(code=code, message=message)
    for detail in details:
        status.details.add().Pack(detail)
    return RemoteError(status)


async def answered(handler: Handler) -> Message:
    """Run a handler inside the layer."""
    return await errors.layer(METHOD, handler)(Empty(), NO_CONTEXT)


async def status_of(error: BaseException) -> status_pb2.Status:
    """Return the status that a handler's error is sent as."""

    async def failing(_request: Message, _context: Context) -> Message:
        raise error

    with pytest.raises(StatusError) as caught:
        await answered(failing)
    return caught.value.status


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (ErrorKind.INVALID, code_pb2.INVALID_ARGUMENT),
        (ErrorKind.NOT_FOUND, code_pb2.NOT_FOUND),
        (ErrorKind.REFUSED, code_pb2.FAILED_PRECONDITION),
        (ErrorKind.LOST_UPDATE, code_pb2.ABORTED),
        (ErrorKind.OVERLOADED, code_pb2.RESOURCE_EXHAUSTED),
        (ErrorKind.TOO_LATE, code_pb2.DEADLINE_EXCEEDED),
        (ErrorKind.UNAVAILABLE, code_pb2.UNAVAILABLE),
    ],
)
def test_each_kind_of_error_has_its_code(kind: ErrorKind, code: int) -> None:
    """With reason, domain and metadata for programs, and the sentence for people."""
    error = type("SomeError", (DomainError,), {"kind": kind, "service": "gallery", "reason": "SOME"})(
        "Because.", key="7"
    )
    status = to_status(error)
    assert (status.code, status.message) == (code, "Because.")
    assert info_of(status) == error_details_pb2.ErrorInfo(
        reason="SOME", domain="gallery.libretto", metadata={"key": "7"}
    )
    assert len(status.details) == 1


def test_no_kind_of_error_is_without_a_code() -> None:
    """A new kind needs a line in the table."""
    assert set(errors.CODES) == set(ErrorKind)


def test_wrong_fields_are_all_named_in_the_status() -> None:
    """The ErrorInfo has the first one's reason."""
    status = to_status(
        InvalidRequestError([Violation("sku", "FIELD_REQUIRED", "is missing"), Violation("n", "FIELD_INVALID", "odd")])
    )
    bad = error_details_pb2.BadRequest()
    assert info_of(status).reason == "FIELD_REQUIRED"
    assert info_of(status).domain == "common.libretto"
    assert status.details[1].Unpack(bad)
    assert [(item.field, item.reason, item.description) for item in bad.field_violations] == [
        ("sku", "FIELD_REQUIRED", "is missing"),
        ("n", "FIELD_INVALID", "odd"),
    ]


def test_the_wait_of_an_error_that_may_pass_is_in_the_status() -> None:
    """As RetryInfo, to the millisecond."""
    status = to_status(values.OutcomePendingError("later"))
    retry = error_details_pb2.RetryInfo()
    assert status.details[1].Unpack(retry)
    assert retry.retry_delay.ToMilliseconds() == 200


@pytest.mark.parametrize(
    "error",
    [
        PaintingSoldError("Sold.", painting_id="42"),
        values.OverloadedError("Too much."),
        values.RequestIdReusedError(),
        InvalidRequestError([Violation("sku", "FIELD_REQUIRED", "is missing")]),
    ],
    ids=lambda error: type(error).__name__,
)
def test_the_caller_reads_back_what_was_sent(error: DomainError) -> None:
    """Code, service, reason, metadata and wait."""
    read = RemoteError(status_pb2.Status.FromString(to_status(error).SerializeToString()))
    assert (read.code, read.service, read.reason) == (
        errors.grpc_code(errors.CODES[error.kind]),
        error.service,
        error.reason,
    )
    assert read.metadata == error.metadata
    assert read.retry_after_seconds == error.retry_after_seconds


def test_an_answer_without_an_error_info_of_ours_has_no_service_and_no_reason() -> None:
    """As when the connection broke, or something between us answered."""
    foreign = error_details_pb2.ErrorInfo(reason="API_DISABLED", domain="googleapis.com")
    for error in (remote(code_pb2.UNAVAILABLE), remote(code_pb2.UNAVAILABLE, foreign)):
        assert (error.code, error.service, error.reason) == (grpc.StatusCode.UNAVAILABLE, "", "")
        assert error.retry_after_seconds is None


def test_details_that_contradict_the_call_s_own_code_are_not_believed() -> None:
    """The code that gRPC itself delivered counts."""
    lying = to_status(PaintingSoldError("Sold.")).SerializeToString()
    error = grpc.aio.AioRpcError(
        grpc.StatusCode.UNAVAILABLE,
        grpc.aio.Metadata(),
        grpc.aio.Metadata(("grpc-status-details-bin", lying)),
        details="down",
    )
    read = errors.from_call_error(error)
    assert (read.code, read.reason, read.status.message) == (grpc.StatusCode.UNAVAILABLE, "", "down")


async def test_a_response_passes_the_layer_untouched() -> None:
    """Only errors are turned."""

    async def answering(request: Message, _context: Context) -> Message:
        return request

    assert await answered(answering) == Empty()


async def test_a_domain_error_passes_the_layer_as_its_status() -> None:
    """Nothing is added."""
    error = PaintingSoldError("Sold.", painting_id="42")
    assert await status_of(error) == to_status(error)


async def test_a_stored_refusal_passes_the_layer_byte_for_byte() -> None:
    """A replay answers what was answered first."""
    stored = to_status(PaintingSoldError("Sold, in the words of an older release.")).SerializeToString()
    sent = await status_of(StatusError(status_pb2.Status.FromString(stored)))
    assert sent.SerializeToString() == stored


async def test_what_no_one_expected_is_internal_and_only_its_id_is_told() -> None:
    """The log has the incident by that id with the places in the code, and no text of the exception either."""
    with capture_logs() as logs:
        status = await status_of(ValueError(SECRET))
    incident_id = info_of(status).metadata["incident_id"]
    assert status.code == code_pb2.INTERNAL
    assert (info_of(status).reason, info_of(status).domain) == ("INTERNAL", "common.libretto")
    assert incident_id in status.message
    assert SECRET not in str(status)
    assert SECRET.encode() not in status.SerializeToString()
    (line,) = logs
    assert (line["event"], line["incident_id"], line["error_type"]) == ("incident", incident_id, "ValueError")
    assert any("failing" in frame for frame in line["frames"])
    assert SECRET not in str(line)


def test_an_incident_is_logged_with_the_ids_of_what_it_befell() -> None:
    """Beside the frames and the type of the error, so that whoever searches for an order finds it."""
    with capture_logs() as logs:
        errors.incident(ValueError(SECRET), order_id="42")
    (line,) = logs
    assert (line["order_id"], line["error_type"]) == ("42", "ValueError")
    assert SECRET not in str(line)


async def test_no_two_incidents_share_an_id() -> None:
    """Each is found by its own."""
    with capture_logs():
        statuses = [await status_of(KeyError(SECRET)) for _ in range(20)]
    assert len({info_of(status).metadata["incident_id"] for status in statuses}) == 20


async def test_a_task_of_ours_that_was_cancelled_is_an_incident() -> None:
    """The caller is still there and waits: a cancellation that it did not ask for would never be answered."""

    async def awaiting_a_dead_task(_request: Message, _context: Context) -> Message:
        inner: asyncio.Task[None] = asyncio.create_task(asyncio.sleep(3600))
        inner.cancel()
        await inner
        return Empty()

    with capture_logs() as logs, pytest.raises(StatusError) as caught:
        await answered(awaiting_a_dead_task)
    assert caught.value.status.code == code_pb2.INTERNAL
    assert logs[0]["error_type"] == "CancelledError"


async def test_a_cancelled_call_stays_cancelled() -> None:
    """Nobody waits for its answer, and it is no incident."""
    begun = asyncio.Event()

    async def waiting(_request: Message, _context: Context) -> Message:
        begun.set()
        await asyncio.Event().wait()
        return Empty()

    call = asyncio.create_task(answered(waiting))
    await begun.wait()
    call.cancel()
    with capture_logs() as logs, pytest.raises(asyncio.CancelledError):
        await call
    assert logs == []


@pytest.mark.parametrize("code", [code_pb2.UNAVAILABLE, code_pb2.RESOURCE_EXHAUSTED, code_pb2.CANCELLED])
async def test_a_service_that_does_not_answer_makes_us_unavailable(code: int) -> None:
    """With a wait of ours, and nothing of its text."""
    status = await status_of(remote(code, message=SECRET))
    assert status == to_status(values.DependencyUnavailableError("A service that is needed does not answer."))


async def test_time_that_ran_out_further_down_was_our_caller_s() -> None:
    """It is told so, and not that it should come back with as little time."""
    assert await status_of(remote(code_pb2.DEADLINE_EXCEEDED, message=SECRET)) == to_status(
        values.DeadlineExceededError()
    )


async def test_a_service_s_wait_is_handed_on() -> None:
    """It knows better how long it needs."""
    retry = error_details_pb2.RetryInfo()
    retry.retry_delay.FromMilliseconds(7_000)
    status = await status_of(remote(code_pb2.UNAVAILABLE, retry))
    assert RemoteError(status).retry_after_seconds == 7.0


@pytest.mark.parametrize(
    "code", [code_pb2.INVALID_ARGUMENT, code_pb2.NOT_FOUND, code_pb2.UNKNOWN, code_pb2.INTERNAL, code_pb2.UNIMPLEMENTED]
)
async def test_a_refusal_that_we_did_not_expect_of_a_service_is_an_incident(code: int) -> None:
    """It is a fault of ours to ask so, and none of our caller's."""
    with capture_logs() as logs:
        status = await status_of(remote(code, message=SECRET))
    assert (status.code, info_of(status).reason) == (code_pb2.INTERNAL, "INTERNAL")
    assert SECRET not in str(status)
    assert SECRET not in str(logs)


def test_a_status_names_so_many_wrong_fields_that_callers_can_take_it() -> None:
    """It travels as metadata, of which gRPC takes 8 KiB: sixteen are named, and how many there are is told."""
    violations = [
        Violation(f"lines[{place}].product_id", "FIELD_INVALID", "takes a UUID " + "x" * 60) for place in range(128)
    ]
    status = to_status(InvalidRequestError(violations))
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    assert status.details[0].Unpack(info)
    assert status.details[1].Unpack(bad)
    assert (len(bad.field_violations), info.metadata["violations"]) == (16, "128")
    assert status.ByteSize() < 4096
