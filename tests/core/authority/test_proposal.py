"""I2's ground: one proposal has one byte form and one digest, and nothing else is read."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

import msgspec
import pytest

from core.authority.proposal import PROPOSAL_SCHEMA, Proposal, parse_proposal, proposal_bytes, proposal_digest
from core.types.codes import ReasonCode, RefusalError

PROPOSAL = Proposal(
    schema=PROPOSAL_SCHEMA,
    suggestion_id="01JA0000000000000000000000",
    version="1",
    environment="local",
    mode="PAPER",
    engine_id="engine-1",
    account_id="acct-demo",
    venue="paper",
    symbol="BTCUSDT",
    instrument_version="1",
    side="BUY",
    order_type="LIMIT",
    time_in_force="GTC",
    quantity="0.5",
    price="61837.63",
    post_only="false",
    reduce_only="false",
    notional_quote="30918.815",
    reference_price="61837.635",
    max_deviation_bps="50",
    asker_id="user-trader",
    run_id="",
    trace_id="01JA0000000000000000000001",
    created_at_ns="1790000000000000000",
    expires_at_ns="1790000300000000000",
)


@dataclass(frozen=True)
class Malformed:
    why: str
    data: bytes


def _changed(**changes: object) -> bytes:
    fields = {name: value for name, value in (msgspec.to_builtins(PROPOSAL) | changes).items() if value is not None}
    return json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()


def test_the_bytes_read_back() -> None:
    assert parse_proposal(proposal_bytes(PROPOSAL)) == PROPOSAL


def test_the_digest_covers_a_domain_tag_and_the_bytes() -> None:
    canonical = proposal_bytes(PROPOSAL)
    assert proposal_digest(canonical) == hashlib.sha256(b"veloz/order-proposal/v1\x00" + canonical).hexdigest()


@pytest.mark.parametrize("name", Proposal.__struct_fields__)
def test_every_field_is_digested(name: str) -> None:
    other = msgspec.structs.replace(PROPOSAL, **{name: getattr(PROPOSAL, name) + "1"})
    assert proposal_digest(proposal_bytes(other)) != proposal_digest(proposal_bytes(PROPOSAL))


@pytest.mark.parametrize(
    "case",
    [
        Malformed("other spacing", json.dumps(msgspec.to_builtins(PROPOSAL), sort_keys=True).encode()),
        Malformed("an unknown field", _changed(leverage="10")),
        Malformed("a missing field", _changed(price=None)),
        Malformed("a number instead of text", _changed(quantity=0.5)),
        Malformed("an unknown side", _changed(side="HOLD")),
        Malformed("another schema", _changed(schema="veloz.order-proposal/2")),
        Malformed("a quantity with trailing zeros", _changed(quantity="0.50")),
        Malformed("a negative quantity", _changed(quantity="-0.5")),
        Malformed("an exponent", _changed(quantity="5E-1")),
        Malformed("not a number", _changed(notional_quote="NaN")),
        Malformed("a limit order without price", _changed(price="")),
        Malformed("a stop, whose trigger nobody would be shown", _changed(order_type="STOP", price="")),
        Malformed("a trailing stop", _changed(order_type="TRAILING_STOP", price="")),
        Malformed("a stop-limit", _changed(order_type="STOP_LIMIT")),
        Malformed("an expiry that nobody would be shown", _changed(time_in_force="GTD")),
        Malformed("a market order with price", _changed(order_type="MARKET")),
        Malformed("a version with a leading zero", _changed(version="01")),
        Malformed("a flag that is no flag", _changed(post_only="yes")),
        Malformed("a signed time", _changed(expires_at_ns="-1")),
        Malformed("a byte too many", proposal_bytes(PROPOSAL) + b" "),
        Malformed("not JSON", b"\xff\x00"),
        Malformed("far too long", b"x" * 20_000),
    ],
    ids=lambda case: case.why,
)
def test_anything_else_is_malformed(case: Malformed) -> None:
    with pytest.raises(RefusalError) as caught:
        parse_proposal(case.data)
    assert caught.value.refusal.code is ReasonCode.AUTHORITY_PROPOSAL_MALFORMED
