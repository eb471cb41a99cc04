"""risk.toml: what isn't whole and plain doesn't start (I11)."""

from __future__ import annotations

import pytest

from core.risk.limits import RISK_SCHEMA, RiskLimitsError, limits_digest, parse_risk_limits
from core.types.events import RiskLimits

WHOLE = f"""
schema = "{RISK_SCHEMA}"
max_notional_per_order_quote = "250000.00"
price_collar_bps = 500
max_deviation_bps = 50
book_stale_after_ms = 3000
"""


def test_a_whole_file_is_read() -> None:
    assert parse_risk_limits(WHOLE, "risk.toml") == RiskLimits("250000", 500, 50, 3_000)


@pytest.mark.parametrize("key", [line.split(" ")[0] for line in WHOLE.strip().splitlines()])
def test_no_limit_has_a_default(key: str) -> None:
    lines = [line for line in WHOLE.splitlines() if not line.startswith(key)]
    with pytest.raises(RiskLimitsError, match=f"risk.toml: key '{key}' is missing"):
        parse_risk_limits("\n".join(lines), "risk.toml")


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ('"250000.00"', "250000.0", "max_notional_per_order_quote"),
        ('"250000.00"', "250000", "max_notional_per_order_quote"),
        ('"250000.00"', '"-1"', "max_notional_per_order_quote"),
        ('"250000.00"', '"0"', "max_notional_per_order_quote"),
        ('"250000.00"', '"Infinity"', "max_notional_per_order_quote"),
        ('"250000.00"', '"lots"', "max_notional_per_order_quote"),
        ("= 500", "= -1", "price_collar_bps"),
        ("= 500", "= 0", "price_collar_bps"),
        ("= 500", "= 10001", "price_collar_bps"),
        ("= 50\n", "= 5.5\n", "max_deviation_bps"),
        ("= 50\n", '= "50"\n', "max_deviation_bps"),
        ("= 50\n", "= true\n", "max_deviation_bps"),
        ("= 3000", "= 3000\nmax_orders = 5", "max_orders"),
        (RISK_SCHEMA, "veloz.risk-limits/2", "schema"),
    ],
)
def test_a_wrong_value_names_file_and_key(old: str, new: str, key: str) -> None:
    assert old in WHOLE
    with pytest.raises(RiskLimitsError, match=f"risk.toml: key '{key}'"):
        parse_risk_limits(WHOLE.replace(old, new), "risk.toml")


def test_a_file_that_is_no_toml_is_named() -> None:
    with pytest.raises(RiskLimitsError, match=r"risk\.toml: not valid TOML"):
        parse_risk_limits("limits:", "risk.toml")


def test_the_digest_tells_limits_apart() -> None:
    limits = parse_risk_limits(WHOLE, "risk.toml")
    assert limits_digest(limits) != limits_digest(parse_risk_limits(WHOLE.replace("= 50\n", "= 51\n"), "risk.toml"))
