"""The processor's HTTP/JSON interface: each request parsed and refused, or done in the ledger and answered.

A refusal is ``{"error": {"code": ...}}``, with the ``field`` and a ``message`` for bad input (400), and with the
``authorization`` beside it where its state is the reason (402, 409). A repeated call is answered like the first.
"""

import asyncio
import hmac
import json
import logging
import re
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from http import HTTPStatus
from typing import NoReturn

from aiohttp import web
from aiohttp.typedefs import Handler

from services.outside.card_processor.ledger import DECLINE_CODES, Authorization, Entry, Ledger, State, Terms, TokenKind

BODY_LIMIT_BYTES = 16 * 1024
BODY_WAIT_SECONDS = 10.0
AMOUNT_LIMIT_MINOR = 10**12
TOKEN_LIMIT_CHARACTERS = 255
PAGE_DEFAULT, PAGE_LIMIT = 50, 200
ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
CURRENCY = re.compile(r"[A-Z]{3}")
NUMBER = re.compile(r"[0-9]{1,18}")
TOKENS = {f"tok_{kind}": kind for kind in TokenKind}

logger = logging.getLogger(__name__)


class Refusal(Exception):  # noqa: N818  (most refusals are answers to a call that was no error)
    """What a call is answered with instead of its result."""

    def __init__(self, status: HTTPStatus, code: str = "", about: Authorization | None = None, **details: str) -> None:
        """Refuse with a code, by default the status's name, and with the authorisation it is about."""
        super().__init__(code)
        self.status = status
        self.body: dict[str, object] = {"error": {"code": code or status.name.lower(), **details}}
        if about is not None:
            self.body["authorization"] = _as_json(about)


@dataclass(frozen=True, slots=True)
class Api:
    """The handlers, over one ledger; the slow tokens take `slow_seconds`."""

    ledger: Ledger
    api_key: str = field(repr=False)
    slow_seconds: float

    def application(self) -> web.Application:
        """Make the aiohttp application that serves this interface."""
        application = web.Application(client_max_size=BODY_LIMIT_BYTES, middlewares=[self._guard])
        authorizations, one = "/v1/authorizations", "/v1/authorizations/{authorization_id}"
        application.router.add_put(one, self._authorize)
        application.router.add_get(one, self._get)
        application.router.add_post(f"{one}/capture", self._capture)
        application.router.add_post(f"{one}/void", self._void)
        application.router.add_get(authorizations, self._list_authorizations)
        application.router.add_get("/v1/ledger", self._list_entries)
        return application

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Let in only who has the key, read the body within its limits, and answer every refusal in one form."""
        try:
            self._check_key(request)
            async with asyncio.timeout(BODY_WAIT_SECONDS):
                await request.read()
            return await handler(request)
        except Refusal as error:
            refusal = error
        except web.HTTPException as error:
            refusal = Refusal(HTTPStatus(error.status))
        except web.RequestPayloadError:
            refusal = Refusal(HTTPStatus.BAD_REQUEST, "invalid_field", field="body", message="cannot be decoded")
        except TimeoutError:
            refusal = Refusal(HTTPStatus.REQUEST_TIMEOUT)
        except sqlite3.Error:
            logger.exception("the ledger failed in %s %s", request.method, request.path)
            refusal = Refusal(HTTPStatus.INTERNAL_SERVER_ERROR)
        return web.json_response(refusal.body, status=refusal.status)

    def _check_key(self, request: web.Request) -> None:
        given = request.headers.get("Authorization", "").encode("utf-8", "surrogateescape")
        if not hmac.compare_digest(given, f"Bearer {self.api_key}".encode()):
            raise Refusal(HTTPStatus.UNAUTHORIZED)

    async def _authorize(self, request: web.Request) -> web.Response:
        authorization_id, terms = _authorization_id(request), await _terms(request)
        found = self.ledger.find(authorization_id)
        if found is None:
            if terms.token_kind is TokenKind.UNAVAILABLE:
                raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "unavailable")
            if terms.token_kind is TokenKind.SLOW:
                await asyncio.sleep(self.slow_seconds)
            found, changed = self.ledger.authorize(authorization_id, terms)
            if changed and terms.token_kind is TokenKind.LOST_REPLY:
                _drop(request)
        if found.state is State.VOIDED:
            raise Refusal(HTTPStatus.CONFLICT, found.state, found)
        if found.terms != terms:
            raise Refusal(HTTPStatus.CONFLICT, "id_reused")
        if found.state is State.DECLINED:
            raise Refusal(HTTPStatus.PAYMENT_REQUIRED, DECLINE_CODES[terms.token_kind], found)
        return web.json_response(_as_json(found), status=HTTPStatus.CREATED)

    async def _get(self, request: web.Request) -> web.Response:
        return web.json_response(_as_json(self._known(request)))

    async def _capture(self, request: web.Request) -> web.Response:
        await _fields(request)
        found = self._known(request)
        kind = found.terms.token_kind if found.terms else None
        if found.state is State.AUTHORIZED and kind is TokenKind.SLOW_CAPTURE:
            await asyncio.sleep(self.slow_seconds)
        found, changed = self.ledger.capture(found.id)
        if changed and kind is TokenKind.LOST_CAPTURE:
            _drop(request)
        if found.state is not State.CAPTURED:
            raise Refusal(HTTPStatus.CONFLICT, found.state, found)
        return web.json_response(_as_json(found))

    async def _void(self, request: web.Request) -> web.Response:
        await _fields(request)
        found, _ = self.ledger.void(_authorization_id(request))
        # A decline holds no money: to void it is no conflict, and it stays a decline.
        if found.state is State.CAPTURED:
            raise Refusal(HTTPStatus.CONFLICT, found.state, found)
        return web.json_response(_as_json(found))

    async def _list_authorizations(self, request: web.Request) -> web.Response:
        return _page(request, "authorizations", self.ledger.list_authorizations)

    async def _list_entries(self, request: web.Request) -> web.Response:
        authorization_id = request.query.get("authorization_id")
        if authorization_id is not None:
            _check_id(authorization_id)
        return _page(request, "entries", partial(self.ledger.list_entries, authorization_id))

    def _known(self, request: web.Request) -> Authorization:
        found = self.ledger.find(_authorization_id(request))
        if found is None:
            raise Refusal(HTTPStatus.NOT_FOUND)
        return found


def _as_json(item: Authorization | Entry) -> dict[str, object]:
    if isinstance(item, Entry):
        return asdict(item)
    terms = item.terms
    return {
        "id": item.id,
        "state": item.state,
        "amount_minor": terms.amount_minor if terms else None,
        "currency": terms.currency if terms else None,
        "captured_minor": item.captured_minor,
        "decline_code": DECLINE_CODES.get(terms.token_kind) if terms else None,
        "create_time": item.create_time,
    }


def _refuse(name: str, message: str) -> NoReturn:
    raise Refusal(HTTPStatus.BAD_REQUEST, "invalid_field", field=name, message=message)


def _drop(request: web.Request) -> None:
    """Close the connection; what the handler answers then reaches nobody."""
    if request.transport is not None:
        request.transport.abort()


def _check_id(text: str) -> None:
    if not ID.fullmatch(text):
        _refuse("authorization_id", "must be 1 to 64 characters of A-Z, a-z, 0-9, _ and -")


def _authorization_id(request: web.Request) -> str:
    authorization_id = request.match_info["authorization_id"]
    _check_id(authorization_id)
    return authorization_id


async def _fields(request: web.Request, *allowed: str) -> dict[str, object]:
    """Read the body's JSON object; none at all counts as an empty one."""
    try:
        body = json.loads(await request.read() or b"{}")
    except (ValueError, RecursionError):
        _refuse("body", "must be JSON")
    if not isinstance(body, dict):
        _refuse("body", "must be a JSON object")
    if unknown := body.keys() - set(allowed):
        _refuse(min(unknown)[:64], "is not known here")
    return body


async def _terms(request: web.Request) -> Terms:
    fields = await _fields(request, "amount_minor", "currency", "token")
    amount_minor, currency, token = fields.get("amount_minor"), fields.get("currency"), fields.get("token")
    # isinstance would let a JSON true pass for the number 1.
    if type(amount_minor) is not int or not 1 <= amount_minor <= AMOUNT_LIMIT_MINOR:
        _refuse("amount_minor", f"must be a whole number from 1 to {AMOUNT_LIMIT_MINOR}")
    if not isinstance(currency, str) or not CURRENCY.fullmatch(currency):
        _refuse("currency", "must be three capital letters")
    if not isinstance(token, str) or not 1 <= len(token) <= TOKEN_LIMIT_CHARACTERS:
        _refuse("token", f"must be a text of 1 to {TOKEN_LIMIT_CHARACTERS} characters")
    return Terms(amount_minor, currency, TOKENS.get(token, TokenKind.INVALID))


def _page(
    request: web.Request, name: str, fetch: Callable[[int, int], Sequence[Authorization | Entry]]
) -> web.Response:
    """Answer with the items after `after`, `limit` at most, and the `next_after` of the page that follows, if any."""
    after, limit = request.query.get("after", "0"), request.query.get("limit", str(PAGE_DEFAULT))
    if not NUMBER.fullmatch(after):
        _refuse("after", "must be the next_after of an earlier page")
    if not NUMBER.fullmatch(limit) or not 1 <= int(limit) <= PAGE_LIMIT:
        _refuse("limit", f"must be a whole number from 1 to {PAGE_LIMIT}")
    found = fetch(int(after), int(limit) + 1)
    page = found[: int(limit)]
    next_after = page[-1].sequence if len(found) > len(page) else None
    return web.json_response({name: [_as_json(item) for item in page], "next_after": next_after})
