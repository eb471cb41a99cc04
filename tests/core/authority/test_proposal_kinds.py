"""Every kind of proposal: one byte form, one digest, and no signature for one that another could be read as."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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
    domain_tag,
    parse_proposal,
    proposal_bytes,
    proposal_digest,
)
from core.types.codes import ReasonCode, RefusalError
from tests.core.authority.proposals import LIMITS, example

FIELDS = [(schema, name) for schema, kind in PROPOSAL_KINDS.items() for name in kind.__struct_fields__]


def problem(canonical: bytes) -> str:
    """Why these bytes are no proposal; empty for one that is."""
    try:
        parse_proposal(canonical)
    except RefusalError as error:
        refusal = error.refusal
    else:
        return ""
    assert refusal.code is ReasonCode.AUTHORITY_PROPOSAL_MALFORMED
    return refusal.message


def changed(schema: str, /, **changes: object) -> bytes:
    """The bytes of the example with other values; None leaves one out."""
    fields = msgspec.to_builtins(example(schema)) | changes
    kept = {name: value for name, value in fields.items() if value is not None}
    return json.dumps(kept, sort_keys=True, separators=(",", ":")).encode()


@pytest.mark.parametrize("schema", PROPOSAL_KINDS)
def test_the_example_of_each_kind_reads_back(schema: str) -> None:
    proposal = example(schema)
    assert parse_proposal(proposal_bytes(proposal)) == proposal


@given(st.sampled_from(FIELDS), st.text(st.characters(codec="utf-8"), max_size=20))
@settings(max_examples=200, deadline=None)
def test_another_value_in_any_field_is_another_digest(field: tuple[str, str], value: str) -> None:
    schema, name = field
    before = example(schema)
    after = msgspec.structs.replace(before, **{name: value})
    same = proposal_digest(proposal_bytes(after)) == proposal_digest(proposal_bytes(before))
    assert same is (getattr(before, name) == value)


@given(st.sampled_from(FIELDS), st.one_of(st.integers(), st.booleans(), st.none(), st.lists(st.text(max_size=3))))
@settings(max_examples=200, deadline=None)
def test_a_value_that_isnt_text_is_malformed(field: tuple[str, str], value: object) -> None:
    schema, name = field
    fields: dict[str, Any] = msgspec.to_builtins(example(schema)) | {name: value}
    assert problem(json.dumps(fields, sort_keys=True, separators=(",", ":")).encode())


@pytest.mark.parametrize(("schema", "name"), FIELDS)
def test_a_field_that_is_missing_doubled_or_unknown_is_malformed(schema: str, name: str) -> None:
    canonical = proposal_bytes(example(schema))
    once = f'{{"{name}":"1",'.encode()
    doubled = canonical.replace(b"{", once + once[1:], 1)
    for data in (doubled, changed(schema, **{f"{name}_": "1"})):
        assert problem(data), data
    # Nobody's edit is left out, and has no other form.
    is_left_out = name == "edited_by"
    assert bool(problem(changed(schema, **{name: None}))) is not is_left_out
    assert not is_left_out or problem(changed(schema, **{name: ""}))


@pytest.mark.parametrize("schema", PROPOSAL_KINDS)
def test_each_kind_signs_under_a_tag_of_its_own(schema: str) -> None:
    name, number = schema.split("/")
    assert domain_tag(schema) == f"{name.replace('.', '/')}/v{number}".encode() + b"\x00"
    others = {domain_tag(other) for other in PROPOSAL_KINDS if other != schema}
    assert not any(domain_tag(schema).startswith(other) or other.startswith(domain_tag(schema)) for other in others)


def test_one_kinds_bytes_under_another_kinds_schema_are_no_proposal() -> None:
    for schema in PROPOSAL_KINDS:
        for other in PROPOSAL_KINDS:
            if PROPOSAL_KINDS[other].__struct_fields__ != PROPOSAL_KINDS[schema].__struct_fields__:
                assert problem(changed(schema, schema=other)), (schema, other)


def test_the_first_schema_is_signed_as_it_always_was() -> None:
    assert domain_tag(PROPOSAL_SCHEMA) == b"veloz/order-proposal/v1\x00"


ORDER = ORDER_PROPOSAL_SCHEMA
STOP = {"order_type": "STOP", "price": "", "stop_price": "61000"}
TRAILING = {"order_type": "TRAILING_STOP", "price": "", "trailing_offset_bps": "100"}
GTD = {"time_in_force": "GTD", "order_expires_at_ns": "1900000000000000000"}

CLOSE, HEDGE, BRACKET = CLOSE_PROPOSAL_SCHEMA, HEDGE_PROPOSAL_SCHEMA, BRACKET_PROPOSAL_SCHEMA
NO_EXITS = {"stop_type": "", "stop_trigger_price": "", "take_profit_type": "", "take_profit_limit_price": ""}
TRAILED = {"stop_type": "TRAILING_STOP", "stop_trigger_price": "", "stop_trailing_offset_bps": "100"}
CANCEL, AMEND, KILL = CANCEL_PROPOSAL_SCHEMA, AMEND_PROPOSAL_SCHEMA, KILL_SWITCH_PROPOSAL_SCHEMA
LISTED = CANCEL_LISTED_PROPOSAL_SCHEMA
ONE = "vz-1 BUY 0.1 BTCUSDT LIMIT at 60000"
HUNDRED = "; ".join(ONE.replace("vz-1", f"vz-{number}") for number in range(100))
STRATEGY = STRATEGY_CHANGE_PROPOSAL_SCHEMA
TIGHTER = {
    "action": "tighten",
    **{f"new_{name}": value for name, value in LIMITS.items()},
    "new_max_order_notional_quote": "500000",
}


@pytest.mark.parametrize(
    ("schema", "changes", "why"),
    [
        (ORDER, {}, ""),
        (ORDER, STOP, ""),
        (ORDER, STOP | {"stop_price": ""}, "stop_price must be a positive decimal"),
        (ORDER, STOP | {"stop_price": "61000.0"}, "stop_price must be a positive decimal"),
        (ORDER, STOP | {"price": "61000"}, "a STOP order has no price"),
        (ORDER, STOP | {"order_type": "STOP_LIMIT"}, "price must be a positive decimal"),
        (ORDER, STOP | {"order_type": "STOP_LIMIT", "price": "61010"}, ""),
        (ORDER, STOP | {"order_type": "TAKE_PROFIT"}, ""),
        (ORDER, STOP | {"order_type": "TAKE_PROFIT_LIMIT", "price": "61010"}, ""),
        (ORDER, {"stop_price": "61000"}, "a LIMIT order has no stop_price"),
        (ORDER, TRAILING, ""),
        (ORDER, TRAILING | {"activation_price": "62000"}, ""),
        (ORDER, TRAILING | {"activation_price": "-1"}, "activation_price must be a positive decimal"),
        (ORDER, TRAILING | {"trailing_offset_bps": "1.5"}, "trailing_offset_bps must be a whole number"),
        (ORDER, TRAILING | {"trailing_offset_bps": ""}, "trailing_offset_bps must be a positive decimal"),
        (ORDER, STOP | {"trailing_offset_bps": "100"}, "a STOP order has no trailing_offset_bps"),
        (ORDER, STOP | {"activation_price": "62000"}, "a STOP order has no activation_price"),
        (ORDER, GTD, ""),
        (ORDER, GTD | {"order_expires_at_ns": ""}, "a GTD order, and no other, has order_expires_at_ns"),
        (ORDER, GTD | {"time_in_force": "GTC"}, "a GTD order, and no other, has order_expires_at_ns"),
        (ORDER, GTD | {"order_expires_at_ns": "soon"}, "order_expires_at_ns must be a whole number"),
        (ORDER, GTD | {"post_only": "true"}, ""),
        (ORDER, {"post_only": "true", "time_in_force": "IOC"}, "post_only goes with a LIMIT order that rests"),
        (ORDER, STOP | {"post_only": "true"}, "post_only goes with a LIMIT order that rests"),
        (ORDER, {"reduce_only": "maybe"}, "reduce_only must be 'true' or 'false'"),
        (ORDER, {"quantity": "1" * 41}, "quantity"),
        (PROPOSAL_SCHEMA, STOP | {"stop_price": None}, "schema 1 is for a LIMIT or a MARKET order"),
        (CLOSE, {"position_quantity": "0.1"}, ""),
        (CLOSE, {"position_quantity": "0.09"}, "quantity is more than the position"),
        (CLOSE, {"position_quantity": "-0.5"}, "side must be the one that reduces"),
        (CLOSE, {"position_quantity": "-0.5", "side": "BUY"}, ""),
        (CLOSE, {"position_quantity": "0"}, "position_quantity must be a position that isn't flat"),
        (CLOSE, {"position_quantity": "--1"}, "position_quantity must be a decimal"),
        (CLOSE, {"position_quantity": "0.50"}, "position_quantity must be a position"),
        (CLOSE, {"reduce_only": "false"}, "is reduce_only"),
        (CLOSE, STOP, "it is a LIMIT or a MARKET order"),
        (HEDGE, {"quantity": "0.10001"}, "quantity is more than the exposure and the ratio come to"),
        (HEDGE, {"hedge_ratio_bps": "4999"}, "quantity is more than the exposure and the ratio come to"),
        (HEDGE, {"hedge_ratio_bps": "10000", "quantity": "0.2", "notional_quote": "12000"}, ""),
        (HEDGE, {"hedge_ratio_bps": "10001"}, "hedge_ratio_bps must be from 1 to 10000"),
        (HEDGE, {"hedge_ratio_bps": "0"}, "hedge_ratio_bps must be from 1 to 10000"),
        (HEDGE, {"exposure_price": "59999"}, "quantity is more than the exposure and the ratio come to"),
        (HEDGE, {"side": "BUY"}, "side must be the one that reduces"),
        (HEDGE, {"hedged_symbol": ""}, "hedged_symbol must have"),
        (HEDGE, STOP, "it is a LIMIT or a MARKET order"),
        (BRACKET, {"stop_type": "", "stop_trigger_price": ""}, ""),
        (BRACKET, {"take_profit_type": "", "take_profit_limit_price": ""}, ""),
        (BRACKET, NO_EXITS, "a bracket has a take-profit, a stop, or both"),
        (BRACKET, {"stop_type": ""}, "has no stop_trigger_price"),
        (BRACKET, {"stop_type": "LIMIT"}, "a stop is one of"),
        (BRACKET, {"take_profit_type": "STOP"}, "a take-profit is one of"),
        (BRACKET, {"entry_type": "TAKE_PROFIT"}, "an entry is one of"),
        (BRACKET, {"entry_time_in_force": "GTD"}, "an entry is one of"),
        (BRACKET, {"entry_type": "MARKET"}, "a MARKET order has no entry_limit_price"),
        (BRACKET, {"entry_type": "MARKET", "entry_limit_price": "", "entry_time_in_force": "IOC"}, ""),
        (BRACKET, {"stop_type": "STOP_LIMIT"}, "stop_limit_price must be a positive decimal"),
        (BRACKET, {"stop_type": "STOP_LIMIT", "stop_limit_price": "58900"}, ""),
        (BRACKET, {"stop_type": "TRAILING_STOP"}, "has no stop_trigger_price"),
        (BRACKET, TRAILED, ""),
        (BRACKET, TRAILED | {"stop_trailing_offset_bps": "1.5"}, "stop_trailing_offset_bps must be a whole number"),
        (BRACKET, {"entry_post_only": "perhaps"}, "entry_post_only must be"),
        (CANCEL, {"client_order_id": ""}, "client_order_id must have"),
        (CANCEL, {"client_order_id": "x" * 129}, "client_order_id must have"),
        (CANCEL, {"side": "HOLD"}, "HOLD"),
        (CANCEL, {"price": ""}, ""),
        (LISTED, {"orders": HUNDRED}, ""),
        (LISTED, {"orders": f"{HUNDRED}; {ONE.replace('vz-1', 'vz-x')}"}, "more than 100 orders"),
        (LISTED, {"orders": ONE, "symbol": ""}, ""),
        (LISTED, {"orders": "vz-1 BUY 0.1 BTCUSDT TRAILING_STOP"}, ""),
        (LISTED, {"orders": ""}, "isn't an order"),
        (LISTED, {"orders": f"{ONE}; {ONE}"}, "listed twice"),
        (LISTED, {"orders": f"{ONE};{ONE}"}, "isn't an order"),
        (LISTED, {"orders": f"{ONE}; "}, "isn't an order"),
        (LISTED, {"orders": ONE.replace("BUY", "HOLD")}, "isn't an order"),
        (LISTED, {"orders": ONE.replace("LIMIT", "ICEBERG")}, "ICEBERG"),
        (LISTED, {"orders": ONE.replace("0.1", "0.10")}, "positive decimal"),
        (LISTED, {"orders": ONE.replace("60000", "0")}, "positive decimal"),
        (LISTED, {"orders": ONE.replace("60000", "6e4")}, "isn't an order"),
        (LISTED, {"orders": ONE.replace("vz-1", "x" * 129)}, "isn't an order"),
        (LISTED, {"orders": ONE.replace("BTC", "ETH")}, "isn't in BTCUSDT"),
        (LISTED, {"venue": ""}, "there is a venue"),
        (CANCEL, {"price": "6e4"}, "price must be a positive decimal"),
        (AMEND, {"new_price": "60000"}, "neither quantity nor price would change"),
        (AMEND, {"new_quantity": "0"}, "new_quantity must be a positive decimal"),
        (AMEND, {"filled_quantity": "0.05"}, ""),
        (AMEND, {"filled_quantity": ""}, "filled_quantity must be a positive decimal"),
        (AMEND, {"order_type": "STOP"}, "a STOP order can't be amended"),
        (KILL, {"state": "REDUCE_ONLY", "scope": "engine"}, ""),
        (KILL, {"state": "NORMAL"}, "state must be one of REDUCE_ONLY, CANCEL_ONLY, HALTED"),
        (KILL, {"state": "halted"}, "state must be one of"),
        (KILL, {"scope": "firm"}, "scope must be one of account, engine"),
        (KILL, {"reason": "x" * 513}, "reason has more than 512"),
        (STRATEGY, {"action": "install"}, "action must be one of revoke, tighten"),
        (STRATEGY, {"new_max_open_orders": "1"}, "a mandate that is revoked has no new limits"),
        (STRATEGY, TIGHTER, ""),
        (STRATEGY, TIGHTER | {"new_max_open_orders": "1000001"}, "limits can only be tightened"),
        (STRATEGY, TIGHTER | {"new_max_total_notional_quote": "100000001"}, "limits can only be tightened"),
        (STRATEGY, TIGHTER | {"new_max_order_notional_quote": "1000000"}, "limits can only be tightened"),
        (STRATEGY, TIGHTER | {"new_max_open_orders": ""}, "new_max_open_orders must be a positive decimal"),
        (STRATEGY, TIGHTER | {"new_max_open_orders": "0"}, "new_max_open_orders must be a positive decimal"),
        (STRATEGY, {"mandate_id": ""}, "mandate_id and strategy_id must have"),
    ],
)
def test_what_a_kind_can_say(schema: str, changes: dict[str, Any], why: str) -> None:
    found = problem(changed(schema, **changes))
    assert why in found
    assert bool(found) is bool(why), found
