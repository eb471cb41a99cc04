"""Trade reviews: what is remembered of a closed position.

Facts are figures as plain decimal text, composed into a narrative by fixed rules, so that the same position gives the
same review; the narrative is redacted before it is embedded or stored (I8).
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import ROUND_HALF_EVEN, Decimal, localcontext

import msgspec

from core.text.redaction import Redactor
from core.types.clock import NS_PER_S, format_utc_us
from core.types.events import ClosedPosition
from core.types.money import decimal_text, from_scaled
from core.types.orders import Side
from knowledge.embed import Embedder

FILLS_LIMIT = 10_000
BPS_PLACES = Decimal("0.01")
PRICE_DIGITS = 60
BPS_PER_UNIT = 10_000
# Longest first, so that FDUSD isn't taken for USD.
QUOTE_ASSETS = ("FDUSD", "USDT", "USDC", "TUSD", "BUSD", "USD", "EUR", "GBP", "TRY", "BTC", "ETH", "BNB", "DAI")


class ReviewFill(msgspec.Struct, frozen=True):
    """One fill of the position. reference_price is the mid that its order was proposed on, None when not known."""

    client_order_id: str
    side: Side
    price: Decimal
    quantity: Decimal
    traded_ns: int
    is_maker: bool
    reference_price: Decimal | None = None


class PriceRange(msgspec.Struct, frozen=True):
    """High and low of a span that the position was held over, for MAE and MFE."""

    high: Decimal
    low: Decimal


class ReviewSource(msgspec.Struct, frozen=True):
    """All that a review is built from. ranges is empty when no klines are at hand.

    suggested_by and approved_by are user ids; empty when not known.
    """

    account_id: str
    venue: str
    symbol: str
    base_asset: str
    quote_asset: str
    price_scale: int
    quantity_scale: int
    closed: ClosedPosition
    fills: tuple[ReviewFill, ...]
    ranges: tuple[PriceRange, ...] = ()
    suggested_by: tuple[str, ...] = ()
    approved_by: tuple[str, ...] = ()


class Review(msgspec.Struct, frozen=True):
    """A stored review. facts are text only; narrative is redacted."""

    review_id: str
    position_id: str
    account_id: str
    symbol: str
    facts: dict[str, str]
    narrative: str
    closed_ns: int


class EmbeddedReview(msgspec.Struct, frozen=True):
    review: Review
    embedder: str
    embedding: tuple[float, ...]


class ReviewBuilder:
    """Facts, narrative, redaction, embedding."""

    def __init__(self, embedder: Embedder, redactor: Redactor | None = None) -> None:
        self._embedder = embedder
        self._redactor = redactor or Redactor()

    def build(self, review_id: str, source: ReviewSource) -> EmbeddedReview:
        """Computes only; raises ValueError when the source has more than FILLS_LIMIT fills."""
        if len(source.fills) > FILLS_LIMIT:
            raise ValueError(f"a position of {len(source.fills)} fills exceeds {FILLS_LIMIT}")
        facts = review_facts(source)
        narrative = self._redactor.text(compose_narrative(source, facts)).text
        review = Review(
            review_id=review_id,
            position_id=source.closed.position_id,
            account_id=source.account_id,
            symbol=source.symbol,
            facts=facts,
            narrative=narrative,
            closed_ns=source.closed.closed_ns,
        )
        [vector] = self._embedder.embed([narrative])
        return EmbeddedReview(review, self._embedder.name, tuple(vector))


def review_facts(source: ReviewSource) -> dict[str, str]:
    """Every figure of the review as plain decimal text, units last.

    slippage_bps of entries and exits is the quantity-weighted distance of fills from the mid they were proposed on,
    positive when it cost. MAE and MFE are the worst and best price move against and for the position, in bps of the
    average entry, over the given ranges.
    """
    closed = source.closed
    entry = from_scaled(closed.entry_average_price, source.price_scale)
    exit_price = from_scaled(closed.exit_average_price, source.price_scale)
    notional_scale = source.price_scale + source.quantity_scale
    realised = from_scaled(closed.realised_pnl, notional_scale)
    fees = from_scaled(closed.fees, notional_scale)
    entries = [fill for fill in source.fills if fill.side is closed.side]
    exits = [fill for fill in source.fills if fill.side is not closed.side]
    facts = {
        "venue": source.venue,
        "side": "long" if closed.side is Side.BUY else "short",
        "max_quantity": decimal_text(from_scaled(closed.max_quantity, source.quantity_scale)),
        "entry_average_price": decimal_text(entry),
        "exit_average_price": decimal_text(exit_price),
        "realised_pnl_quote": decimal_text(realised),
        "fees_quote": decimal_text(fees),
        "net_pnl_quote": decimal_text(realised - fees),
        "holding_time_s": str((closed.closed_ns - closed.opened_ns) // NS_PER_S),
        "opened_at": format_utc_us(closed.opened_ns),
        "closed_at": format_utc_us(closed.closed_ns),
        "entry_fills": str(len(entries)),
        "exit_fills": str(len(exits)),
        "maker_fills": str(sum(fill.is_maker for fill in source.fills)),
        "orders": str(len(closed.client_order_ids)),
    }
    if entry:
        move = exit_price - entry if closed.side is Side.BUY else entry - exit_price
        facts["price_move_bps"] = _bps(move, entry)
    for name, fills in (("entry_slippage_bps", entries), ("exit_slippage_bps", exits)):
        slippage = _slippage_bps(fills)
        if slippage is not None:
            facts[name] = slippage
    if source.ranges and entry:
        facts |= _excursions(closed.side, entry, source.ranges)
    if source.suggested_by:
        facts["suggested_by"] = ", ".join(source.suggested_by)
    if source.approved_by:
        facts["approved_by"] = ", ".join(source.approved_by)
    return facts


def compose_narrative(source: ReviewSource, facts: dict[str, str]) -> str:
    """The review in sentences: fixed wording, the facts' own figures."""
    quote = source.quote_asset
    net = Decimal(facts["net_pnl_quote"])
    verdict = "profit" if net > 0 else "loss" if net < 0 else "break-even"
    sentences = [
        f"{facts['side'].capitalize()} {source.symbol} ({source.base_asset}) on {source.venue}, closed at a {verdict}: "
        f"net {facts['net_pnl_quote']} {quote} (realised {facts['realised_pnl_quote']} {quote}, "
        f"fees {facts['fees_quote']} {quote}).",
        f"At most {facts['max_quantity']} {source.base_asset}, entered at {facts['entry_average_price']} on average in "
        f"{facts['entry_fills']} fills and left at {facts['exit_average_price']} in {facts['exit_fills']} fills"
        + (f", a move of {facts['price_move_bps']} bps." if "price_move_bps" in facts else "."),
        f"Held for {facts['holding_time_s']} s, from {facts['opened_at']} to {facts['closed_at']}; "
        f"{facts['maker_fills']} fills were maker fills.",
    ]
    if "entry_slippage_bps" in facts:
        sentences.append(f"Entries slipped {facts['entry_slippage_bps']} bps against the price they were proposed on.")
    if "exit_slippage_bps" in facts:
        sentences.append(f"Exits slipped {facts['exit_slippage_bps']} bps against the price they were proposed on.")
    if "max_adverse_excursion_bps" in facts:
        sentences.append(
            f"The market went at worst {facts['max_adverse_excursion_bps']} bps against the position and at best "
            f"{facts['max_favourable_excursion_bps']} bps with it."
        )
    if "suggested_by" in facts:
        sentences.append(f"Suggested for {facts['suggested_by']}.")
    if "approved_by" in facts:
        sentences.append(f"Approved by {facts['approved_by']}.")
    return " ".join(sentences)


def split_symbol(symbol: str) -> tuple[str, str]:
    """Base and quote asset by the usual endings: for words in a narrative, never for amounts.

    A symbol with no known ending gives itself and ``quote``.
    """
    for quote in QUOTE_ASSETS:
        if symbol.endswith(quote) and len(symbol) > len(quote):
            return symbol.removesuffix(quote), quote
    return symbol, "quote"


def _slippage_bps(fills: Sequence[ReviewFill]) -> str | None:
    known = [(fill, fill.reference_price) for fill in fills if fill.reference_price]
    if not known:
        return None
    cost = sum(
        ((fill.price - mid) * fill.quantity * (1 if fill.side is Side.BUY else -1) for fill, mid in known), Decimal(0)
    )
    reference = sum((mid * fill.quantity for fill, mid in known), Decimal(0))
    return _bps(cost, reference)


def _excursions(side: Side, entry: Decimal, ranges: Sequence[PriceRange]) -> dict[str, str]:
    high, low = max(span.high for span in ranges), min(span.low for span in ranges)
    up, down = max(high - entry, Decimal(0)), max(entry - low, Decimal(0))
    adverse, favourable = (down, up) if side is Side.BUY else (up, down)
    return {
        "max_adverse_excursion_bps": _bps(adverse, entry),
        "max_favourable_excursion_bps": _bps(favourable, entry),
    }


def _bps(part: Decimal, whole: Decimal) -> str:
    with localcontext() as context:
        context.prec = PRICE_DIGITS
        return decimal_text((part * BPS_PER_UNIT / whole).quantize(BPS_PLACES, rounding=ROUND_HALF_EVEN))
