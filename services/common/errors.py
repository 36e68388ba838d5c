"""Errors on the wire: domain errors become `google.rpc.Status`, and a status becomes a typed error again.

    DomainError                  an expected failure of ours (services.common.values), one class a reason
    ├── InvalidRequestError      some fields are wrong
    ├── …                        each service's own
    StatusError                  a status ready to be sent: what `layer` makes of every error, or a stored refusal
    RemoteError                  what another service answered, with its code, reason and metadata

On the server `layer` is the only place that turns exceptions into statuses. What no one expected becomes INTERNAL with
an incident id that finds the traceback in the logs; the exception's text stays out of both, as it may hold personal
data.
"""

import asyncio
import datetime as dt
import functools
import secrets
import traceback

import grpc
from google.protobuf.any_pb2 import Any
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from services.common.layers import Context, Handler, Method
from services.common.logs import get_logger
from services.common.values import (
    DeadlineExceededError,
    DependencyUnavailableError,
    DomainError,
    ErrorKind,
    InvalidRequestError,
)

CODES = {
    ErrorKind.INVALID: code_pb2.INVALID_ARGUMENT,
    ErrorKind.NOT_FOUND: code_pb2.NOT_FOUND,
    ErrorKind.REFUSED: code_pb2.FAILED_PRECONDITION,
    ErrorKind.LOST_UPDATE: code_pb2.ABORTED,
    ErrorKind.OVERLOADED: code_pb2.RESOURCE_EXHAUSTED,
    ErrorKind.TOO_LATE: code_pb2.DEADLINE_EXCEEDED,
    ErrorKind.UNAVAILABLE: code_pb2.UNAVAILABLE,
}
"""The gRPC code of each kind of error: the one place where they meet."""

_PASSING = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.CANCELLED)
"""The codes of a trouble that may be over when the dependency is called again."""
VIOLATIONS_LIMIT = 16
"""How many wrong fields a status names: it travels as metadata, of which callers take 8 KiB."""

_DOMAIN_SUFFIX = ".libretto"
_log = get_logger(__name__)


class StatusError(Exception):
    """A status that is sent exactly as it stands."""

    def __init__(self, status: status_pb2.Status) -> None:
        """Keep the status."""
        super().__init__(status.message)
        self.status = status


class RemoteError(Exception):
    """What another service answered instead of a response.

    `service` and `reason` are empty when the answer had no ErrorInfo of Libretto, as when the connection broke.
    """

    def __init__(self, status: status_pb2.Status) -> None:
        """Read code, reason, metadata and the wait that was asked for, in seconds, out of a status."""
        super().__init__(f"{code_pb2.Code.Name(status.code)}: {status.message}")
        self.code = grpc_code(status.code)
        self.status = status
        info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
        for detail in status.details:
            detail.Unpack(info) or detail.Unpack(retry)
        ours = info.domain.endswith(_DOMAIN_SUFFIX)
        self.service = info.domain.removesuffix(_DOMAIN_SUFFIX) if ours else ""
        self.reason = info.reason if ours else ""
        self.metadata = dict(info.metadata)
        wait_seconds = retry.retry_delay.ToTimedelta().total_seconds()
        self.retry_after_seconds = wait_seconds if wait_seconds > 0 else None


def grpc_code(number: int) -> grpc.StatusCode:
    """Return gRPC's own enum value for a code's number."""
    return _CODES_BY_NUMBER[number]


_CODES_BY_NUMBER: dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}


def to_status(error: DomainError) -> status_pb2.Status:
    """Turn a domain error into its status: code by kind, ErrorInfo, fields and wait where there are any."""
    info = error_details_pb2.ErrorInfo(
        reason=error.reason, domain=error.service + _DOMAIN_SUFFIX, metadata=dict(error.metadata)
    )
    details: list[Message] = [info]
    if isinstance(error, InvalidRequestError):
        if len(error.violations) > VIOLATIONS_LIMIT:
            info.metadata["violations"] = str(len(error.violations))
        details.append(
            error_details_pb2.BadRequest(
                field_violations=[
                    error_details_pb2.BadRequest.FieldViolation(
                        field=violation.field, reason=violation.reason, description=violation.description
                    )
                    for violation in error.violations[:VIOLATIONS_LIMIT]
                ]
            )
        )
    if error.retry_after_seconds is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromTimedelta(dt.timedelta(seconds=error.retry_after_seconds))
        details.append(retry)
    return _status(CODES[error.kind], error.message, details)


def from_call_error(error: grpc.aio.AioRpcError) -> RemoteError:
    """Turn the library's error into the typed one."""
    try:
        status = rpc_status.from_call(error)  # type: ignore[arg-type]  # the stubs know no aio
    except ValueError:  # Details that contradict the call's own code are not believed.
        status = None
    return RemoteError(status or status_pb2.Status(code=error.code().value[0], message=error.details() or ""))


def layer(_method: Method, handler: Handler) -> Handler:
    """Turn every exception of the handler into a StatusError, and let no text out that is not ours."""

    @functools.wraps(handler)
    async def answering(request: Message, context: Context) -> Message:
        try:
            return await handler(request, context)
        except StatusError:
            raise
        except DomainError as error:
            status = to_status(error)
        except RemoteError as error:
            status = _of_dependency(error)
        except asyncio.CancelledError as error:
            if is_being_cancelled():  # The caller went away, or the server's grace has ended.
                raise
            status = incident(error)  # A task of ours was cancelled under it; passed on, it would never be answered.
        except Exception as error:  # noqa: BLE001 - the outermost seam: what no one expected must not reach the caller.
            status = incident(error)
        raise StatusError(status)

    return answering


def is_being_cancelled() -> bool:
    """Tell whether the present task was cancelled; a CancelledError in any other comes from what that one awaited."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def incident(error: BaseException, **ids: str) -> status_pb2.Status:
    """Log what no one expected under a new incident id, and return the status that names only the id.

    The log has the error's type and frames, never its text, and the ids of what it befell, such as `order_id`.
    """
    incident_id = secrets.token_hex(8)
    frames = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(error.__traceback__)]
    _log.error("incident", incident_id=incident_id, error_type=type(error).__qualname__, frames=frames[-20:], **ids)
    info = error_details_pb2.ErrorInfo(
        reason="INTERNAL", domain="common" + _DOMAIN_SUFFIX, metadata={"incident_id": incident_id}
    )
    return _status(code_pb2.INTERNAL, f"Internal error; the logs have it as incident {incident_id}.", [info])


def _of_dependency(error: RemoteError) -> status_pb2.Status:
    """Answer for a service that failed us.

    A handler's calls have all the time that it has, so where one's time ran out, our caller's did: what is called with
    less, by `deadline.within`, is answered for there. What may pass is UNAVAILABLE; any other refusal is a fault of
    ours.
    """
    if error.code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return to_status(DeadlineExceededError())
    if error.code not in _PASSING:
        return incident(error)
    unavailable = DependencyUnavailableError("A service that is needed does not answer.")
    unavailable.retry_after_seconds = error.retry_after_seconds or unavailable.retry_after_seconds
    return to_status(unavailable)


def _status(code: int, message: str, details: list[Message]) -> status_pb2.Status:
    packed = []
    for detail in details:
        box = Any()
        box.Pack(detail)
        packed.append(box)
    return status_pb2.Status(code=code, message=message, details=packed)
