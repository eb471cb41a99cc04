"""I11: configuration with a mistake in it ends the process with 78 and a message that names file, key and cure."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from api import processes
from core.authority.roster import RosterError, parse_signed_roster, render_signed_roster
from core.authority.signatures import public_key_hex
from core.config import ConfigurationError, load_settings
from core.risk.rules import LIMIT_NAMES, RiskRulesError, parse_risk_rules
from tests.core.approvals import SECOND_SEED, rules_document, signed_roster
from tests.core.engine_support import NO_NATS, RISK_TOML, make_home


def run_engine(home: Path) -> tuple[int, str]:
    """The exit code and what was said."""
    completed = subprocess.run(
        [sys.executable, "-m", "api.processes", "engine"],
        env={"PATH": os.environ["PATH"], "VELOZ_HOME": str(home), "VELOZ_NATS__URL": NO_NATS},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return completed.returncode, completed.stderr


def unknown_key(home: Path) -> None:
    (home / "veloz.toml").write_text("[engine]\nengine_identity = 'engine-1'\n")


def missing_limit(home: Path) -> None:
    (home / "risk.toml").write_text(RISK_TOML.replace("price_collar_bps = 500", ""))


def forged_roster(home: Path) -> None:
    """Signed, but not by the root key."""
    signed = json.loads(render_signed_roster(signed_roster()))
    signed["roster"]["two_approvals_above_quote"] = "999999999"
    (home / "roster.json").write_text(json.dumps(signed))


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (unknown_key, ("veloz.toml", "engine.engine_identity", "remove it or correct its name")),
        (missing_limit, ("risk.toml", "price_collar_bps", "every limit must be set")),
        (forged_roster, ("roster.json", "signature")),
    ],
)
def test_the_engine_ends_with_78_and_says_what_to_mend(
    tmp_path: Path, spoil: Callable[[Path], None], named: tuple[str, ...]
) -> None:
    make_home(tmp_path / "home")
    spoil(tmp_path / "home")
    code, said = run_engine(tmp_path / "home")
    assert code == processes.EXIT_CONFIGURATION == 78, said
    for part in named:
        assert part in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("toml", "environment", "named"),
    [
        ("colour = 'red'", {}, ("veloz.toml", "colour")),
        ("[api]\nport = 70000", {}, ("veloz.toml", "api.port", "65535")),
        ("[api]\nport = 'eighty'", {}, ("veloz.toml", "api.port")),
        ("mode = 'LIVE'", {}, ("veloz.toml", "mode", "PAPER")),
        ("[market]\nsource = 'random'", {}, ("veloz.toml", "market.source", "synthetic")),
        ("[copilot]\nsuggestion_ttl_s = 0", {}, ("veloz.toml", "copilot.suggestion_ttl_s")),
        ("home = '/tmp'", {}, ("veloz.toml", "home", "VELOZ_HOME")),
        ("not toml", {}, ("veloz.toml", "not valid TOML")),
        ("", {"VELOZ_API__PROT": "1"}, ("VELOZ_API__PROT", "no such setting")),
        ("", {"VELOZ_VENUE__RECV_WINDOW_MS": "5s"}, ("VELOZ_VENUE__RECV_WINDOW_MS",)),
    ],
)
def test_every_mistake_in_the_settings_is_named(
    tmp_path: Path, toml: str, environment: dict[str, str], named: tuple[str, ...]
) -> None:
    (tmp_path / "veloz.toml").write_text(toml)
    with pytest.raises(ConfigurationError) as caught:
        load_settings(tmp_path, environment)
    for part in named:
        assert part in str(caught.value)


@pytest.mark.parametrize("limit", [*LIMIT_NAMES, "dead_mans_timer_s", "time_zone"])
def test_no_limit_is_ever_missing(limit: str) -> None:
    lines = [line for line in RISK_TOML.splitlines() if not line.startswith(limit)]
    assert len(lines) == len(RISK_TOML.splitlines()) - 1
    with pytest.raises(RiskRulesError, match=rf"risk\.toml: line \d+: \[global\] key '{limit}': is missing"):
        parse_risk_rules("\n".join(lines), "risk.toml")


@pytest.mark.parametrize("limit", LIMIT_NAMES)
@pytest.mark.parametrize(
    "value",
    ["0", "-1", "true", "1.5", "'ten'", "nan", "inf", "''", "'-1'", "'0'", "'NaN'", "'5%'", "999999999999", "{}"],
)
def test_no_limit_is_ever_zero_negative_or_of_another_kind(limit: str, value: str) -> None:
    """999999999999 is too much for the whole numbers, and not in quotes for the money."""
    text = rules_document(**{limit: value})
    line = next(number for number, row in enumerate(text.splitlines(), 1) if row.startswith(limit))
    with pytest.raises(RiskRulesError, match=rf"risk\.toml: line {line}: \[global\] key '{limit}': must"):
        parse_risk_rules(text, "risk.toml")


def test_a_roster_of_another_root_is_refused() -> None:
    with pytest.raises(RosterError, match=r"roster\.json"):
        parse_signed_roster(render_signed_roster(signed_roster()), "roster.json", public_key_hex(SECOND_SEED))
