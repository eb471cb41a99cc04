"""Records as they are written, and as earlier releases wrote them: both mean the same (I4)."""

from __future__ import annotations

import msgspec
import pytest

from core.types.authority import DerivedAuthority
from core.types.codes import ReasonCode, Refusal
from core.types.events import (
    ApprovalDecided,
    JournalEvent,
    MarketInputs,
    OrderIntended,
    OrderRefused,
    RiskCheckRecord,
    checks_by_name,
    decode_event,
    encode_event,
    rendered_checks,
)
from core.types.orders import OrderIntent, OrderType, Side, TimeInForce

CHECKS = (
    RiskCheckRecord("RISK_SELF_TRADE", True, None, "59990", "quote"),
    RiskCheckRecord("RISK_POSITION_EXCEEDS_MAX", False, "10", '12 "or so"', "quote", "account:a"),
)
IN_ORDER = (
    b'"checks":[["RISK_SELF_TRADE",true,null,"59990","quote",null],'
    b'["RISK_POSITION_EXCEEDS_MAX",false,"10","12 \\"or so\\"","quote","account:a"]]'
)
BY_NAME = (
    b'"checks":[{"name":"RISK_SELF_TRADE","passed":true,"limit":null,"actual":"59990","unit":"quote","source":null},'
    b'{"name":"RISK_POSITION_EXCEEDS_MAX","passed":false,"limit":"10","actual":"12 \\"or so\\"","unit":"quote",'
    b'"source":"account:a"}]'
)
MARKET = MarketInputs("1", "2", "1.5", "LIVE", 7, 8)


def intended(checks: tuple[RiskCheckRecord, ...]) -> OrderIntended:
    intent = OrderIntent(
        "acct", "paper", "BTCUSDT", Side.BUY, OrderType.LIMIT, TimeInForce.GTC, 1, 2, 2, 5, "vz-1", strategy_id="grid"
    )
    return OrderIntended(
        ts_ns=5,
        intent=intent,
        authority=DerivedAuthority("vz-0", "stop"),
        notional_quote="2",
        rules_version=3,
        market=MARKET,
        checks=checks,
    )


def refused() -> OrderRefused:
    return OrderRefused(
        ts_ns=5,
        account_id="acct",
        venue="paper",
        symbol="BTCUSDT",
        request='{"checks":[{"name":"not ours"}]}',
        authority=DerivedAuthority("vz-0", "stop"),
        rules_version=3,
        market=MARKET,
        checks=CHECKS,
        refusal=Refusal(ReasonCode.RISK_SELF_TRADE, "no"),
    )


def approved() -> ApprovalDecided:
    """With an order that it caused, whose checks lie within."""
    return ApprovalDecided(
        ts_ns=5,
        suggestion_id="sug-1",
        version=1,
        digest_hex="00",
        proposal="{}",
        account_id="acct",
        asker_id="user",
        run_id="",
        signatures=(),
        rules_version=3,
        roster_version=1,
        market=MARKET,
        checks=CHECKS,
        refusal=None,
        intent=None,
        caused=(intended(CHECKS),),
    )


@pytest.mark.parametrize("event", [intended(CHECKS), refused(), approved()], ids=lambda event: type(event).__name__)
def test_checks_are_written_in_order_and_read_in_order_or_by_name(event: JournalEvent) -> None:
    payload = encode_event(event)
    assert IN_ORDER in payload
    earlier = payload.replace(IN_ORDER, BY_NAME)
    assert earlier != payload
    assert decode_event(payload) == decode_event(earlier) == event


def test_checks_that_were_rendered_are_the_same_bytes() -> None:
    json = IN_ORDER.removeprefix(b'"checks":')
    assert encode_event(intended(rendered_checks(json))) == encode_event(intended(CHECKS))


def test_who_reads_them_without_this_module_gets_names() -> None:
    assert msgspec.json.encode({"checks": checks_by_name(CHECKS)}) == b"{" + BY_NAME + b"}"


@pytest.mark.parametrize(
    "damage",
    [
        (b'"passed":true', b'"passed":1'),
        (b'"name":"RISK_SELF_TRADE",', b""),
        (b'"kind":"order_intended"', b'"kind":"order_imagined"'),
        (b'"rules_version":3', b'"rules_version":"3"'),
    ],
)
def test_what_no_release_wrote_is_refused(damage: tuple[bytes, bytes]) -> None:
    earlier = encode_event(intended(CHECKS)).replace(IN_ORDER, BY_NAME)
    assert damage[0] in earlier
    with pytest.raises(msgspec.ValidationError):
        decode_event(earlier.replace(*damage))
