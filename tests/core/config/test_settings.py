"""I11: bad configuration doesn't start, and the error names the place, the key and the cure."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from core.config import ConfigurationError, load_settings


def _load(home: Path, toml: str = "", **environment: str) -> object:
    home.mkdir(exist_ok=True)
    if toml:
        (home / "veloz.toml").write_text(toml)
    return load_settings(home, environment)


def test_defaults_need_no_file(tmp_path: Path) -> None:
    settings = load_settings(tmp_path, {})
    assert settings.mode == "PAPER"
    assert settings.market.source == "synthetic"


def test_the_environment_lies_over_the_file(tmp_path: Path) -> None:
    (tmp_path / "veloz.toml").write_text('[api]\nport = 1234\nhost = "0.0.0.0"\n')
    settings = load_settings(tmp_path, {"VELOZ_API__PORT": "4321", "VELOZ_MARKET__SPEED": "2.5"})
    assert (settings.api.port, settings.api.host) == (4321, "0.0.0.0")
    assert settings.market.speed == Decimal("2.5")


@pytest.mark.parametrize(
    ("toml", "environment", "expected"),
    [
        ("[api]\nprot = 1\n", {}, ["veloz.toml", "api.prot", "no such setting"]),
        ("[api]\nport = 70000\n", {}, ["veloz.toml", "api.port", "65535"]),
        ("mode = 'LIVE'\n", {}, ["veloz.toml", "mode", "PAPER"]),
        ("home = '/x'\n", {}, ["veloz.toml", "home", "VELOZ_HOME"]),
        ("[api\n", {}, ["veloz.toml", "not valid TOML"]),
        (f"x = {'9' * 5_000}\n", {}, ["veloz.toml", "not valid TOML"]),
        (f"x = {'[' * 5_000}\n", {}, ["veloz.toml", "not valid TOML"]),
        ("[market]\nsource = 'tape'\n", {}, ["market.source", "synthetic"]),
        ("[market]\nspeed = 0\n", {}, ["market.speed", "greater than 0"]),
        ("[copilot]\nsuggestion_ttl_s = -5\n", {}, ["copilot.suggestion_ttl_s", "greater than or equal to 1"]),
        ("[venue]\nwebsocket_api_url = 'http://h'\n", {}, ["venue.websocket_api_url", "ws://host:8481/ws-api/v3"]),
        ("[venue]\nproduct = 'margin'\n", {}, ["venue.product", "'spot' or 'usdm'"]),
        ("", {"VELOZ_APPI__PORT": "1"}, ["VELOZ_APPI__PORT", "no such setting"]),
        ("", {"VELOZ_API__PORT": "many"}, ["VELOZ_API__PORT", "integer"]),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, toml: str, environment: dict[str, str], expected: list[str]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        _load(tmp_path, toml, **environment)
    for part in expected:
        assert part in str(caught.value)


def test_a_missing_secret_names_the_file_and_the_cure(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"secrets/jwt\.key.*veloz up"):
        load_settings(tmp_path, {}).read_secret("jwt.key")
