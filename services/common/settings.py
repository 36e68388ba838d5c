"""Settings: frozen dataclasses, read from the environment as LIBRETTO_<SERVICE>_<NAME>.

Numbers are not negative. A field whose least value is another one says so: `field(metadata={"at_least": 1})`.
"""

import dataclasses
import math
import os
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from services.common.deadline import DeadlineRules

S = TypeVar("S")


class SettingsError(Exception):
    """A setting is missing or cannot be read. The message names it and says what it takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceSettings:
    """What every service can be told. Fields without a default must be set."""

    listen: str
    """Where to listen: `host:port` (port 0: any free one) or `unix:/path`."""
    database_url: str = field(repr=False)
    """The PostgreSQL database, `postgresql://…`."""
    fingerprint_key: str = field(repr=False)
    """The secret of the HMAC that recognises a request sent again. All replicas share it; changing it forgets them."""
    pool_size: int = field(default=4, metadata={"at_least": 1})
    """Database connections at most."""
    open_calls_limit: int = field(default=2_000, metadata={"at_least": 1})
    """How many calls may be open at once; more are refused as OVERLOADED."""
    margin_ms: int = 10
    """How long before its caller gives up a call is answered."""
    minimum_ms: int = 20
    """With less time left than this a call is refused before any work."""
    drain_ms: int = 0
    """How long the service says NOT_SERVING before it refuses calls: in production, until its clients have seen it."""
    grace_ms: int = 5_000
    """How long open calls may take to end when the service stops."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """The least level that is logged."""
    span_file: Path | None = None
    """A file to write spans to, one JSON object a line."""

    @property
    def deadline_rules(self) -> DeadlineRules:
        """The settings of deadlines, as the deadline module takes them."""
        return DeadlineRules(self.margin_ms, self.minimum_ms)


def load(kind: type[S], service: str, environment: Mapping[str, str] = os.environ) -> S:
    """Read a service's settings. Raises SettingsError with all that is wrong, a line each."""
    prefix = f"LIBRETTO_{service.upper()}_"
    hints = typing.get_type_hints(kind)
    values: dict[str, Any] = {}
    problems = []
    fields = {prefix + item.name.upper(): item for item in dataclasses.fields(kind)}  # type: ignore[arg-type]
    for name, item in fields.items():
        if name in environment:
            try:
                values[item.name] = _read(hints[item.name], environment[name], item.metadata.get("at_least", 0))
            except ValueError as error:
                problems.append(f"{name}: {error}")
        elif item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING:
            problems.append(f"{name} must be set")
    problems += [
        f"{name} is no setting" for name in sorted(environment) if name.startswith(prefix) and name not in fields
    ]
    if problems:
        raise SettingsError("\n".join(problems))
    return kind(**values)


def _read(hint: Any, text: str, at_least: float) -> Any:  # noqa: ANN401 - the type is known only when it runs.
    if isinstance(hint, types.UnionType):
        hint = next(part for part in typing.get_args(hint) if part is not type(None))
    if typing.get_origin(hint) is Literal:
        if text not in typing.get_args(hint):
            raise ValueError(f"takes one of {', '.join(typing.get_args(hint))}")
        return text
    return _read_number(hint, text, at_least) if hint in {int, float} else hint(text)


def _read_number(kind: type[int] | type[float], text: str, at_least: float) -> float:
    sentence = f"takes a {'whole ' if kind is int else ''}number of {at_least:g} or more"
    try:
        number = kind(text)
    except ValueError:
        raise ValueError(sentence) from None
    if not (math.isfinite(number) and number >= at_least):
        raise ValueError(sentence)
    return number
