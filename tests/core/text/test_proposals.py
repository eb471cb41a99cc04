"""One line says what is proposed, of every kind that there is."""

from __future__ import annotations

import msgspec
import pytest

from core.authority.proposal import (
    AMEND_PROPOSAL_SCHEMA,
    BRACKET_PROPOSAL_SCHEMA,
    CANCEL_LISTED_PROPOSAL_SCHEMA,
    CANCEL_PROPOSAL_SCHEMA,
    CLOSE_PROPOSAL_SCHEMA,
    HEDGE_PROPOSAL_SCHEMA,
    KILL_SWITCH_PROPOSAL_SCHEMA,
    ORDER_PROPOSAL_SCHEMA,
    PROPOSAL_KINDS,
    PROPOSAL_SCHEMA,
    STRATEGY_CHANGE_PROPOSAL_SCHEMA,
)
from core.text.proposals import proposal_summary
from tests.core.authority.proposals import LIMITS, example

STOP = {"order_type": "STOP_LIMIT", "stop_price": "61000"}
TIGHTER = {"action": "tighten", **{f"new_{name}": value for name, value in LIMITS.items()}, "new_max_open_orders": "7"}


@pytest.mark.parametrize(
    ("schema", "changes", "text"),
    [
        (PROPOSAL_SCHEMA, {}, "BUY 0.1 BTCUSDT, LIMIT at 60000, GTC"),
        (ORDER_PROPOSAL_SCHEMA, {"post_only": "true"}, "BUY 0.1 BTCUSDT, LIMIT at 60000, GTC post-only"),
        (
            ORDER_PROPOSAL_SCHEMA,
            STOP | {"reduce_only": "true"},
            "BUY 0.1 BTCUSDT, STOP_LIMIT at 60000 once the last trade reaches 61000, GTC reduce-only",
        ),
        (CANCEL_PROPOSAL_SCHEMA, {}, "cancel order vz-1: BUY 0.1 BTCUSDT, LIMIT at 60000"),
        (
            CANCEL_LISTED_PROPOSAL_SCHEMA,
            {},
            "cancel 2 open orders of BTCUSDT: vz-1 BUY 0.1 BTCUSDT LIMIT at 60000; vz-2 SELL 0.2 BTCUSDT STOP once "
            "59000",
        ),
        (
            CANCEL_LISTED_PROPOSAL_SCHEMA,
            {"symbol": "", "orders": "vz-1 BUY 0.1 BTCUSDT LIMIT at 60000"},
            "cancel 1 open order of account acct-demo: vz-1 BUY 0.1 BTCUSDT LIMIT at 60000",
        ),
        (AMEND_PROPOSAL_SCHEMA, {}, "amend order vz-1: BUY BTCUSDT, price 60000 to 59000"),
        (
            AMEND_PROPOSAL_SCHEMA,
            {"new_quantity": "0.2", "new_price": "60000"},
            "amend order vz-1: BUY BTCUSDT, quantity 0.1 to 0.2",
        ),
        (CLOSE_PROPOSAL_SCHEMA, {}, "close 0.5 BTCUSDT: SELL 0.1 BTCUSDT, LIMIT at 60000, GTC reduce-only"),
        (
            HEDGE_PROPOSAL_SCHEMA,
            {},
            "hedge 5000 bps of 0.2 BTCUSDT at 60000: SELL 0.1 BTCUSDT, LIMIT at 60000, GTC",
        ),
        (
            BRACKET_PROPOSAL_SCHEMA,
            {},
            "BUY 0.1 BTCUSDT, LIMIT at 60000, GTC, with take-profit LIMIT at 62000 and stop STOP once the last trade "
            "reaches 59000",
        ),
        (KILL_SWITCH_PROPOSAL_SCHEMA, {}, "set the kill switch of account acct-demo to HALTED: a test"),
        (KILL_SWITCH_PROPOSAL_SCHEMA, {"scope": "engine"}, "set the kill switch of the whole engine to HALTED: a test"),
        (STRATEGY_CHANGE_PROPOSAL_SCHEMA, {}, "revoke mandate man-1 of strategy maker: a test"),
        (
            STRATEGY_CHANGE_PROPOSAL_SCHEMA,
            TIGHTER,
            "tighten mandate man-1 of strategy maker to max_open_orders 1000000 to 7: a test",
        ),
    ],
)
def test_a_proposal_in_one_line(schema: str, changes: dict[str, str], text: str) -> None:
    assert proposal_summary(msgspec.to_builtins(example(schema, **changes))) == text


def test_every_kind_has_words_of_its_own() -> None:
    for schema in PROPOSAL_KINDS:
        assert "a proposal of" not in proposal_summary(msgspec.to_builtins(example(schema)))
    assert proposal_summary({"schema": "veloz.other/1"}) == "a proposal of veloz.other/1"
