"""Unknown keys, absent limits, wrong units and negative numbers: such a file doesn't start and doesn't reload (I11)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from core.authority.administration import AdministrationDocument, administration_bytes, sign_administration
from core.authority.signatures import public_key_hex
from core.kernel.decide_authority import decide_administration
from core.kernel.kernel import Kernel
from core.risk.rules import (
    ACCOUNT_LIMITS,
    ENGINE_SETTINGS,
    LIMIT_NAMES,
    MONEY_LIMITS,
    RATE_LIMITS,
    WHOLE_LIMITS,
    RiskRulesError,
    parse_risk_rules,
    render_default_rules,
)
from core.types.clock import NS_PER_S
from core.types.codes import ReasonCode, Refusal
from core.types.events import RiskRulesInstalled
from tests.core.approvals import ENGINE_ID, NOW_NS, ROOT_SEED, started_kernel

FILE = "/etc/veloz/risk.toml"
KEYS = (*LIMIT_NAMES, *ENGINE_SETTINGS)
OTHER_UNITS = {"quote": "usd", "bps": "percent", "ms": "s", "s": "ms", "order": "lots", "zone": "offset"}
RATE = "{count = 5, window_ms = 1000}"


def wrong_values(key: str) -> Iterator[str]:
    """TOML values that the key can't have."""
    if key in MONEY_LIMITS:
        yield from ('"-1"', '"0"', "1000", "1.5", '"1e6"', '"1,000"', '"1000 USDT"', '"inf"', '"nan"', '""', "true")
    elif key in WHOLE_LIMITS:
        least, most = WHOLE_LIMITS[key]
        yield from ("-1", str(least - 1), str(most + 1), "1.5", '"5"', '"5%"', "true", "[]")
    elif key in RATE_LIMITS:
        for part in ("count", "window_ms"):
            for wrong in ("-1", "0", "1.5", '"5"', "true", "86400001"):
                yield re.sub(rf"{part} = \d+", f"{part} = {wrong}", RATE)
        yield from ("5", '"5/s"', "{}", "{count = 5}", "{count = 5, window_s = 1}", RATE[:-1] + ", burst = 2}")
    elif key == "dead_mans_timer_s":
        yield from ("-1", "0", "86401", '"none"', '"30"', "false")
    else:
        yield from ("1", '""', '"Mars/Olympus"', '"UTC+1:00"')


def with_line(key: str, line: str | None) -> str:
    document, count = re.subn(rf"(?m)^{key} = .*\n", "" if line is None else f"{line}\n", render_default_rules())
    assert count == 1, key
    return document


def value_of(key: str) -> str:
    found = re.search(rf"(?m)^{key} = (.*)$", render_default_rules())
    assert found is not None
    return found.group(1)


def other_unit(key: str) -> str:
    stem, _, unit = key.rpartition("_")
    return f"{stem}_{OTHER_UNITS.get(unit, unit + 's')}"


def cases() -> Iterator[Any]:
    """(document, the key that the refusal names, the line it names, what it says)"""
    whole = render_default_rules()
    for key in KEYS:
        other = f"{other_unit(key)} = {value_of(key)}"
        yield pytest.param(with_line(key, None), key, "[global]", "is missing", id=f"{key} absent")
        yield pytest.param(
            whole.replace("[global]\n", f"[global]\n{other}\n"),
            other_unit(key),
            other,
            "no such limit here",
            id=f"{key} in other units",
        )
        for value in wrong_values(key):
            line = f"{key} = {value}"
            yield pytest.param(with_line(key, line), key, line, "must ", id=line)


def refused_by_a_reload(kernel: Kernel, document: str) -> Refusal:
    signed = administration_bytes(
        AdministrationDocument(
            document_id="doc-1",
            engine_id=ENGINE_ID,
            kind="rules.install",
            body={"document": document},
            issued_at_ns=str(NOW_NS),
            expires_at_ns=str(NOW_NS + 60 * NS_PER_S),
            requested_by="operator",
        )
    )
    decided = decide_administration(
        kernel, signed, [("root", sign_administration(ROOT_SEED, signed))], public_key_hex(ROOT_SEED), NOW_NS + 1
    )
    if isinstance(decided, Refusal):
        return decided
    raise AssertionError(f"taken: {decided}")


@pytest.mark.parametrize(("document", "key", "line", "says"), cases())
def test_such_a_file_neither_starts_nor_reloads(document: str, key: str, line: str, says: str) -> None:
    with pytest.raises(RiskRulesError) as caught:
        parse_risk_rules(document, FILE)
    message = str(caught.value)
    number = int(message.removeprefix(f"{FILE}: line ").split(":")[0])
    assert document.splitlines()[number - 1] == line
    assert f"[global] key '{key}': " in message
    assert says in message

    kernel = started_kernel()
    before = kernel.state_digest()
    refusal = refused_by_a_reload(kernel, document)
    assert refusal.code is ReasonCode.RISK_RULES_INVALID
    assert refusal.message == message.replace(FILE, "risk rules")
    assert kernel.state_digest() == before


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("section", ["account.acct-1", "strategy.maker", "symbol.BTCUSDT"])
def test_a_level_below_sets_any_limit_that_it_can_have_and_no_setting_of_the_engine(section: str, key: str) -> None:
    document = f"{render_default_rules()}\n[{section}]\n{key} = {value_of(key)}\n"
    if key in LIMIT_NAMES and (section.startswith("account") or key not in ACCOUNT_LIMITS):
        parse_risk_rules(document, FILE)
        return
    with pytest.raises(RiskRulesError, match=rf"\[{section}\] key '{key}': no such limit here"):
        parse_risk_rules(document, FILE)


def test_a_good_file_reloads() -> None:
    kernel = started_kernel()
    with pytest.raises(AssertionError, match=RiskRulesInstalled.__name__):
        refused_by_a_reload(kernel, with_line("max_open_orders", "max_open_orders = 7"))
