"""risk.toml: the tightest level wins, what isn't whole and plain doesn't start, and the line is named (I11)."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from core.risk.custom import EXAMPLE, CustomRuleError
from core.risk.rules import RiskRulesError, parse_risk_rules, render_default_rules, rules_digest
from core.types.codes import ReasonCode

LEVELS = """
[desk.alpha]
accounts = ["acct-1", "acct-2"]
max_open_orders = 50
order_rate = {count = 20, window_ms = 1000}

[account.acct-1]
max_open_orders = 60
max_leverage = "2"

[strategy.maker]
max_notional_per_order_quote = "500"

[symbol.BTCUSDT]
max_quantity_per_order = "5"
max_notional_per_order_quote = "800"
"""
RULE = """
[[rule]]
name = "{name}"
when = "{when}"
action = "{action}"
message = "no"
"""


def text(extra: str = "") -> str:
    return render_default_rules() + extra


@pytest.mark.parametrize(
    ("account", "strategy", "symbol", "limit", "value", "source"),
    [
        ("acct-1", "", "ETHUSDT", "max_open_orders", "50", "desk:alpha"),
        ("acct-9", "", "ETHUSDT", "max_open_orders", "200", "global"),
        ("acct-1", "", "ETHUSDT", "max_leverage", "2", "account:acct-1"),
        ("acct-1", "maker", "BTCUSDT", "max_notional_per_order_quote", "500", "strategy:maker"),
        ("acct-1", "", "BTCUSDT", "max_notional_per_order_quote", "800", "symbol:BTCUSDT"),
        ("acct-1", "", "BTCUSDT", "max_quantity_per_order", "5", "symbol:BTCUSDT"),
    ],
)
def test_the_tightest_level_wins(account: str, strategy: str, symbol: str, limit: str, value: str, source: str) -> None:
    found = parse_risk_rules(text(LEVELS), "risk.toml").limits_for(account, strategy, symbol)[limit]
    assert (found.value, found.source) == (Decimal(value), source)


def test_of_rates_all_levels_hold() -> None:
    rates = parse_risk_rules(text(LEVELS), "risk.toml").limits_for("acct-2", "", "BTCUSDT").rates["order_rate"]
    assert [(rate.source, rate.rate.count) for rate in rates] == [("global", 50), ("desk:alpha", 20)]


@pytest.mark.parametrize(
    ("document", "says"),
    [
        (text("[symbol.X]\nmax_loss = 1\n"), r"\[symbol.X\] key 'max_loss': no such limit here"),
        (text("[symbol.X]\ntime_zone = 'UTC'\n"), "key 'time_zone': no such limit here"),
        (text("[account.X]\nmax_open_orders = -1\n"), "must be a whole number from 1"),
        (text("[account.X]\nmax_leverage = '-1'\n"), "must be a decimal above zero"),
        (text("[account.X]\nmax_leverage = 3\n"), "must be a decimal as text"),
        (text("[account.X]\nprice_collar_bps = '5%'\n"), r"whole number from 1 to 10000 \(bps\)"),
        (text("[account.X]\norder_rate = 5\n"), "must look like"),
        (text("[account.X]\norder_rate = {count = 5, window_s = 1}\n"), "must look like"),
        (text("[account.X]\norder_rate = {count = 5, window_ms = 0}\n"), "window_ms must be a whole number from 1"),
        (text("[desk.d]\nmax_open_orders = 1\n"), r"\[desk.d\] key 'accounts': must list"),
        (text("[desk.d]\naccounts = ['a']\n[desk.e]\naccounts = ['a']\n"), "'a' is in desk 'd' already"),
        (text("[desc.d]\naccounts = ['a']\n"), "key 'desc': no such section"),
        (text("[symbol.'a b']\nmax_open_orders = 1\n"), "a name has 1 to 64"),
        (
            text("[symbol.'a.b.c']\nmax_leverage = '0'\n"),
            r"\[symbol.a.b.c\] key 'max_leverage': must be a decimal above",
        ),
        (text("[desk.d]\naccounts = ['a']\n[desk.d.e]\nmax_leverage = '1'\n"), r"\[desk.d\] key 'e': no such limit"),
        (text("[account]\nmax_leverage = '1'\n"), r"\[account\] key 'max_leverage': .* such as \[account.name\]"),
        (
            text("[account.X]\norder_rate = {count = -5, window_ms = 1}\n"),
            "count must be a whole number from 1 to 10000",
        ),
        (text("[account.X]\norder_rate = {count = 5, window_ms = true}\n"), "window_ms must be a whole number from 1"),
        (text().replace('"UTC"', '"Europe/Nowhere"'), "key 'time_zone': must be an IANA name"),
        (text().replace('"UTC"', '"../UTC"'), "key 'time_zone': must be an IANA name"),
        ("schema = 'veloz.risk-limits/2'\n", r"section \[global\] is missing"),
        ("schema = 'veloz.risk-limits/1'\nprice_collar_bps = 5\n", "the form of an earlier release"),
        ("schema = 'x'\n", "must be 'veloz.risk-limits/2'"),
        ("schema = \n", "not valid TOML"),
        (f"schema = {'9' * 5_000}\n", "not valid TOML"),
        (f"schema = {'[' * 5_000}\n", "not valid TOML"),
        (
            text(RULE.format(name="a", when="order.notional_quote >", action="warn")),
            r"\[rule.1\] key 'when': isn't CEL",
        ),
        (text(RULE.format(name="a", when="orders.price > 1.0", action="warn")), "knows no variable 'orders'"),
        (text(RULE.format(name="a", when="order.prize > 1.0", action="warn")), "every variable is listed"),
        (text(RULE.format(name="a", when="order.price", action="warn")), "not true or false"),
        (text(RULE.format(name="a", when="true", action="stop")), "must be one of reject, warn"),
        (text(2 * RULE.format(name="a", when="true", action="warn")), r"\[rule.2\] key 'name'"),
        (text(RULE.format(name="a", when="[1].all(x, x > 0)", action="warn")), "knows no variable 'x'"),
        (text(RULE.format(name="a", when="order.symbol.matches('.*')", action="warn")), "can't use 'matches'"),
        (text(RULE.format(name="a", when="true || " * 200 + "true", action="warn")), "at most 1000 characters"),
    ],
)
def test_what_isnt_whole_doesnt_start_and_the_line_is_named(document: str, says: str) -> None:
    with pytest.raises(RiskRulesError, match=rf"^risk\.toml: .*{says}") as caught:
        parse_risk_rules(document, "risk.toml")
    if says.endswith("is missing") or "TOML" in says:
        return
    number = int(str(caught.value).split("line ")[1].split(":")[0])
    key = str(caught.value).split("'")[1]
    # Where the key isn't there, the header of its section.
    wanted = "[desk.d]" if "must list" in says else key
    assert wanted in document.splitlines()[number - 1]


def test_what_holds_for_nothing_is_told() -> None:
    # A misspelt account would be a limit that is dropped in silence.
    rules = parse_risk_rules(text(LEVELS) + '[desk.beta]\naccounts = ["acct-7"]\n', "risk.toml")
    assert rules.without_effect({"acct-1"}, {"BTCUSDT"}) == (
        "[desk.beta] names no desk of this engine; correct the name, or remove it",
    )
    assert rules.without_effect({"acct-7"}, {"BTCUSD"}) == (
        "[desk.alpha] names no desk of this engine; correct the name, or remove it",
        "[account.acct-1] names no account of this engine; correct the name, or remove it",
        "[symbol.BTCUSDT] names no symbol of this engine; correct the name, or remove it",
    )
    looser = parse_risk_rules(text("[account.acct-1]\nmax_open_orders = 201\nmax_leverage = '3'\n"), "risk.toml")
    assert looser.without_effect({"acct-1"}, ()) == (
        "[account.acct-1] max_open_orders = 201 is looser than [global]'s 200, which holds",
    )


def test_a_custom_rule_tells_what_it_means() -> None:
    rules = parse_risk_rules(text(RULE.format(name="big", when="order.notional_quote > 5.0", action="warn")), "r")
    (rule,) = rules.custom
    assert not rule.is_met(EXAMPLE)
    assert rule.is_met({**EXAMPLE, "order": {**EXAMPLE["order"], "notional_quote": 5.01}})
    with pytest.raises(CustomRuleError, match="big"):
        rule.is_met({**EXAMPLE, "order": {}})


def test_the_documentation_names_every_check_variable_and_limit() -> None:
    text = (Path(__file__).parents[3] / "docs" / "risk.md").read_text()
    codes = {code for code in ReasonCode if code.startswith("RISK_") and code is not ReasonCode.RISK_RULES_INVALID}
    missing = [code for code in sorted(codes) if f"`{code}`" not in text]
    missing += [f"{name}.{field}" for name, fields in EXAMPLE.items() for field in fields if f"`{field}`" not in text]
    assert not missing, f"docs/risk.md doesn't say what {missing} are; say it there"


def test_the_digest_is_the_documents() -> None:
    assert rules_digest(text()) != rules_digest(text() + "\n")
    assert parse_risk_rules(text(), "a").digest_hex == parse_risk_rules(text(), "b").digest_hex == rules_digest(text())


def test_the_dead_mans_timer_is_off_only_when_it_says_so() -> None:
    assert parse_risk_rules(text(), "r").dead_mans_timer_s is None
    on = text().replace('dead_mans_timer_s = "off"', "dead_mans_timer_s = 30")
    assert parse_risk_rules(on, "r").dead_mans_timer_s == 30
    with pytest.raises(RiskRulesError, match="dead_mans_timer_s"):
        parse_risk_rules(text().replace('dead_mans_timer_s = "off"', 'dead_mans_timer_s = "none"'), "r")
