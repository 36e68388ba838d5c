"""Settings from the environment: typed, complete, and told apart from typing errors; secrets are never shown."""

import importlib
from dataclasses import dataclass, field, fields
from pathlib import Path

import pytest

from services.common.deadline import DeadlineRules
from services.common.settings import ServiceSettings, SettingsError, load

SERVICES = ("catalog", "checkout", "inventory", "payment", "pricing")
NEEDED = {
    "LIBRETTO_SHOP_LISTEN": "127.0.0.1:0",
    "LIBRETTO_SHOP_DATABASE_URL": "postgresql://shop:secret-one@localhost/shop",
    "LIBRETTO_SHOP_FINGERPRINT_KEY": "secret-two",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ShopSettings(ServiceSettings):
    """Settings with a field of every type."""

    share: float = 0.5
    pause_seconds: float = field(default=1.0, metadata={"at_least": 0.01})
    folder: Path = Path("/var/shop")


def loaded(**others: str) -> ShopSettings:
    """Load what is needed and some others."""
    return load(ShopSettings, "shop", NEEDED | {f"LIBRETTO_SHOP_{name.upper()}": text for name, text in others.items()})


def refusal(environment: dict[str, str]) -> list[str]:
    """Return the lines by which an environment is refused."""
    with pytest.raises(SettingsError) as caught:
        load(ShopSettings, "shop", environment)
    return str(caught.value).splitlines()


def test_what_is_not_set_has_its_default() -> None:
    """Other variables of the environment are none of ours."""
    settings = load(
        ShopSettings, "shop", NEEDED | {"PATH": "/bin", "LIBRETTO_CATALOG_LISTEN": "x", "LIBRETTO_SHOPPE": "x"}
    )
    assert settings == ShopSettings(
        listen="127.0.0.1:0",
        database_url="postgresql://shop:secret-one@localhost/shop",
        fingerprint_key="secret-two",
    )
    assert settings.span_file is None


def test_each_setting_is_read_as_its_type() -> None:
    """Whole numbers, decimals, paths, one of a few words, and paths that may be absent."""
    settings = loaded(
        pool_size="8",
        share="0.25",
        folder="/srv",
        log_level="DEBUG",
        span_file="/tmp/spans",  # noqa: S108 - nothing is written there.
    )
    assert settings.pool_size == 8
    assert settings.share == 0.25
    assert settings.folder == Path("/srv")
    assert settings.log_level == "DEBUG"
    assert settings.span_file == Path("/tmp/spans")  # noqa: S108 - as above.


def test_a_number_may_be_the_least_that_its_setting_takes() -> None:
    """Zero where nothing else is said."""
    assert loaded(pool_size="1").pool_size == 1
    assert loaded(open_calls_limit="1").open_calls_limit == 1
    assert loaded(pause_seconds="0.01").pause_seconds == 0.01
    assert loaded(share="0").share == 0.0
    assert loaded(drain_ms="0").drain_ms == 0


def test_the_rules_of_deadlines_come_from_the_settings() -> None:
    """In the form that the deadline module takes."""
    assert loaded(margin_ms="30", minimum_ms="40").deadline_rules == DeadlineRules(margin_ms=30, minimum_ms=40)


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("pool_size", "four", "takes a whole number of 1 or more"),
        ("pool_size", "4.5", "takes a whole number of 1 or more"),
        ("pool_size", "", "takes a whole number of 1 or more"),
        ("pool_size", "0", "takes a whole number of 1 or more"),
        ("open_calls_limit", "0", "takes a whole number of 1 or more"),
        ("grace_ms", "-1", "takes a whole number of 0 or more"),
        ("grace_ms", "nan", "takes a whole number of 0 or more"),
        ("share", "half", "takes a number of 0 or more"),
        ("share", "nan", "takes a number of 0 or more"),
        ("share", "inf", "takes a number of 0 or more"),
        ("share", "-0.5", "takes a number of 0 or more"),
        ("pause_seconds", "0", "takes a number of 0.01 or more"),
        ("log_level", "LOUD", "takes one of DEBUG, INFO, WARNING, ERROR"),
    ],
)
def test_a_setting_that_cannot_be_read_is_named_with_what_it_takes(name: str, text: str, sentence: str) -> None:
    """And without its value, which may be a secret in the wrong place."""
    variable = f"LIBRETTO_SHOP_{name.upper()}"
    assert refusal(NEEDED | {variable: text}) == [f"{variable}: {sentence}"]


def test_all_that_is_wrong_is_told_at_once() -> None:
    """Missing ones, wrong ones and unknown ones, a line each."""
    environment = {"LIBRETTO_SHOP_LISTEN": "x", "LIBRETTO_SHOP_POOL_SIZE": "four", "LIBRETTO_SHOP_POOLSIZE": "4"}
    assert refusal(environment) == [
        "LIBRETTO_SHOP_DATABASE_URL must be set",
        "LIBRETTO_SHOP_FINGERPRINT_KEY must be set",
        "LIBRETTO_SHOP_POOL_SIZE: takes a whole number of 1 or more",
        "LIBRETTO_SHOP_POOLSIZE is no setting",
    ]


def test_secrets_are_not_shown() -> None:
    """Neither when settings are printed, nor when they are refused."""
    assert "secret" not in repr(loaded())
    wrong = NEEDED | {"LIBRETTO_SHOP_POOL_SIZE": "secret-three", "LIBRETTO_SHOP_SHARE": "secret-four"}
    assert "secret" not in "\n".join(refusal(wrong))


@pytest.mark.parametrize("service", SERVICES)
def test_no_service_shows_a_key_or_a_database_s_url(service: str) -> None:
    """Each service's own secrets are as hidden as the common ones."""
    module = importlib.import_module(f"services.{service}.config")
    kind = getattr(module, f"{service.capitalize()}Settings")
    shown = {item.name for item in fields(kind) if item.repr}
    assert not [name for name in shown if name.endswith(("_key", "_secret", "_password", "_token", "database_url"))]


@pytest.mark.parametrize("service", SERVICES)
def test_every_service_says_what_it_needs(service: str) -> None:
    """An empty environment is refused by the names that must be set."""
    module = importlib.import_module(f"services.{service}.config")
    kind: type[ServiceSettings] = getattr(module, f"{service.capitalize()}Settings")
    with pytest.raises(SettingsError) as caught:
        load(kind, service, {})
    prefix = f"LIBRETTO_{service.upper()}_"
    told = str(caught.value).splitlines()
    assert {
        f"{prefix}LISTEN must be set",
        f"{prefix}DATABASE_URL must be set",
        f"{prefix}FINGERPRINT_KEY must be set",
    } <= set(told)
    assert all(line.startswith(prefix) for line in told)
