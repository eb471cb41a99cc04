"""Facts, narrative, vectors and fusion: all of it a function of its input."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import numpy as np
import pytest

from core.types.events import ClosedPosition
from core.types.orders import Side
from knowledge.embed import HashingEmbedder
from knowledge.reviews import (
    PriceRange,
    ReviewBuilder,
    ReviewFill,
    ReviewSource,
    compose_narrative,
    review_facts,
    split_symbol,
)
from knowledge.search import reciprocal_rank_fusion

OPENED_NS = 1_767_225_600_000_000_000
HOUR_NS = 3_600 * 10**9
EMBEDDER = HashingEmbedder()


def fill(side: Side, price: str, quantity: str, mid: str | None = None) -> ReviewFill:
    reference = Decimal(mid) if mid else None
    return ReviewFill("vz-1", side, Decimal(price), Decimal(quantity), OPENED_NS, False, reference)


def source(side: Side = Side.BUY) -> ReviewSource:
    """0.5 BTC from 60,000 to 60,600: 300 realised (a loss of 300 when short), 5 of fees."""
    entry_side, exit_side = (Side.BUY, Side.SELL) if side is Side.BUY else (Side.SELL, Side.BUY)
    closed = ClosedPosition(
        position_id="position-1",
        side=side,
        max_quantity=50_000,
        entry_average_price=6_000_000,
        exit_average_price=6_060_000,
        realised_pnl=(300 if side is Side.BUY else -300) * 10**7,
        fees=5 * 10**7,
        opened_ns=OPENED_NS,
        closed_ns=OPENED_NS + HOUR_NS,
        client_order_ids=("vz-1", "vz-2"),
    )
    fills = (
        fill(entry_side, "60000", "0.3", "59994"),
        fill(entry_side, "60000", "0.2", "59994"),
        fill(exit_side, "60600", "0.5"),
    )
    return ReviewSource(
        account_id="acct-demo",
        venue="paper",
        symbol="BTCUSDT",
        base_asset="BTC",
        quote_asset="USDT",
        price_scale=2,
        quantity_scale=5,
        closed=closed,
        fills=fills,
        suggested_by=("user-trader",),
        approved_by=("user-approver",),
    )


def test_facts_are_exact_decimal_text() -> None:
    facts = review_facts(source())
    assert facts == {
        "venue": "paper",
        "side": "long",
        "max_quantity": "0.5",
        "entry_average_price": "60000",
        "exit_average_price": "60600",
        "realised_pnl_quote": "300",
        "fees_quote": "5",
        "net_pnl_quote": "295",
        "holding_time_s": "3600",
        "opened_at": "2026-01-01T00:00:00.000000Z",
        "closed_at": "2026-01-01T01:00:00.000000Z",
        "entry_fills": "2",
        "exit_fills": "1",
        "maker_fills": "0",
        "orders": "2",
        "price_move_bps": "100",
        "entry_slippage_bps": "1",
        "suggested_by": "user-trader",
        "approved_by": "user-approver",
    }


def test_a_short_loses_where_a_long_gains() -> None:
    facts = review_facts(source(Side.SELL))
    assert (facts["side"], facts["net_pnl_quote"], facts["price_move_bps"]) == ("short", "-305", "-100")
    assert facts["entry_slippage_bps"] == "-1"


@pytest.mark.parametrize(("side", "adverse", "favourable"), [(Side.BUY, "50", "200"), (Side.SELL, "200", "50")])
def test_excursions_come_from_the_klines_when_there_are_any(side: Side, adverse: str, favourable: str) -> None:
    ranges = (PriceRange(Decimal(61200), Decimal(60000)), PriceRange(Decimal(60500), Decimal(59700)))
    facts = review_facts(msgspec.structs.replace(source(side), ranges=ranges))
    assert facts["max_adverse_excursion_bps"] == adverse
    assert facts["max_favourable_excursion_bps"] == favourable
    assert "max_adverse_excursion_bps" not in review_facts(source(side))


def test_the_narrative_says_what_happened_in_the_facts_own_figures() -> None:
    narrative = compose_narrative(source(), review_facts(source()))
    for part in ("Long BTCUSDT", "profit", "295 USDT", "60000", "60600", "3600 s", "Approved by user-approver."):
        assert part in narrative
    assert "loss" in compose_narrative(source(Side.SELL), review_facts(source(Side.SELL)))


def test_the_same_position_gives_the_same_review() -> None:
    builder = ReviewBuilder(EMBEDDER)
    first, second = builder.build("review-1", source()), builder.build("review-1", source())
    assert first == second
    assert (first.embedder, len(first.embedding)) == ("hashing-384", 384)


def test_personal_data_does_not_get_into_the_narrative() -> None:
    leaky = msgspec.structs.replace(source(), suggested_by=("jane.doe@example.com",))
    embedded = ReviewBuilder(EMBEDDER).build("review-1", leaky)
    assert "jane.doe@example.com" not in embedded.review.narrative


def test_vectors_are_unit_length_deterministic_and_lexically_near() -> None:
    texts = ["Long BTCUSDT closed at a loss", "a loss on long BTCUSDT", "short ETHUSDT maker fills", ""]
    vectors = np.array(EMBEDDER.embed(texts))
    assert vectors.shape == (4, EMBEDDER.dimensions)
    assert np.allclose(np.linalg.norm(vectors[:3], axis=1), 1)
    assert not vectors[3].any()
    assert (vectors == np.array(HashingEmbedder().embed(texts))).all()
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2]
    assert EMBEDDER.embed([]) == []


def test_fusion_prefers_what_both_rankings_have_and_breaks_ties_by_id() -> None:
    assert reciprocal_rank_fusion([["a", "b", "c"], ["b", "d"]]) == ["b", "a", "d", "c"]
    assert reciprocal_rank_fusion([["b"], ["a"]]) == ["a", "b"]
    assert reciprocal_rank_fusion([[], []]) == []


@pytest.mark.parametrize(
    ("symbol", "parts"),
    [("BTCUSDT", ("BTC", "USDT")), ("ETHFDUSD", ("ETH", "FDUSD")), ("USDT", ("USDT", "quote")), ("X", ("X", "quote"))],
)
def test_symbols_are_split_for_words(symbol: str, parts: tuple[str, str]) -> None:
    assert split_symbol(symbol) == parts
