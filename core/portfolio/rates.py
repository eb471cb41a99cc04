"""What assets are worth in a reporting currency.

A rate is found by the first of: a rate that was given; a market against the reporting currency, either way round; two
markets that meet in one of CROSS_ASSETS, in their order. An asset without any has no rate: amounts of it are told as
unknown, by name, and never count as zero.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal

import msgspec

from core.portfolio.exact import ONE, ZERO, exact
from core.types.instruments import Instrument, Product
from core.types.money import from_scaled

CROSS_ASSETS = ("USDT", "BTC")

InstrumentKey = tuple[str, str]
"""venue, symbol"""


class Valued(msgspec.Struct, frozen=True):
    """A worth in the reporting currency. value is None when the worth of a part isn't known: unknown names those
    assets, and known is the worth of the rest."""

    known: Decimal = ZERO
    unknown: tuple[str, ...] = ()

    @property
    def value(self) -> Decimal | None:
        return None if self.unknown else self.known

    @exact
    def plus(self, other: Valued) -> Valued:
        return Valued(self.known + other.known, _united(self.unknown, other.unknown))

    @exact
    def minus(self, other: Valued) -> Valued:
        return Valued(self.known - other.known, _united(self.unknown, other.unknown))

    @exact
    def magnitude(self) -> Valued:
        return Valued(abs(self.known), self.unknown)


class RateBook(Mapping[str, Decimal]):
    """Rates by asset into one reporting currency; as a mapping it holds the assets that have one.

    prices are those of markets, by (base asset, quote asset), and positive; given holds rates known otherwise.
    """

    def __init__(
        self,
        reporting_asset: str,
        prices: Mapping[tuple[str, str], Decimal],
        given: Mapping[str, Decimal] | None = None,
    ) -> None:
        self.reporting_asset = reporting_asset
        self.prices = prices
        self.given = given or {}

    @classmethod
    def from_marks(
        cls,
        reporting_asset: str,
        instruments: Mapping[InstrumentKey, Instrument],
        marks: Mapping[InstrumentKey, int],
        given: Mapping[str, Decimal] | None = None,
    ) -> RateBook:
        """Of the marks of instruments, ints at price_scale; a pair's spot market goes before its perpetual."""
        prices: dict[tuple[str, str], Decimal] = {}
        ordered = sorted(instruments.items(), key=lambda item: (item[1].product is not Product.SPOT, item[0]))
        for key, instrument in ordered:
            mark = marks.get(key)
            if mark is not None and mark > 0:
                pair = (instrument.base_asset, instrument.quote_asset)
                prices.setdefault(pair, from_scaled(mark, instrument.price_scale))
        return cls(reporting_asset, prices, given)

    def __getitem__(self, asset: str) -> Decimal:
        found = self.rate(asset)
        if found is None:
            raise KeyError(asset)
        return found

    def __iter__(self) -> Iterator[str]:
        assets = {self.reporting_asset: None, **dict.fromkeys(self.given)}
        for base, quote in self.prices:
            assets.update({base: None, quote: None})
        return (asset for asset in assets if self.rate(asset) is not None)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def rate(self, asset: str) -> Decimal | None:
        """What one unit is worth in the reporting currency; None when that isn't known."""
        if asset == self.reporting_asset:
            return ONE
        given = self.given.get(asset)
        return given if given is not None else self.market_rate(asset)

    @exact
    def market_rate(self, asset: str) -> Decimal | None:
        """By the markets alone, whatever rate was given."""
        if asset == self.reporting_asset:
            return ONE
        direct = self._between(asset, self.reporting_asset)
        if direct is not None:
            return direct
        for cross in CROSS_ASSETS:
            if cross in {asset, self.reporting_asset}:
                continue
            first, second = self._between(asset, cross), self._between(cross, self.reporting_asset)
            if second is None:
                second = self.given.get(cross)
            if first is not None and second is not None:
                return first * second
        return None

    @exact
    def worth(self, amount: Decimal, asset: str) -> Valued:
        """Exact for a direct rate. Nothing of an asset is worth nothing, whatever its rate."""
        if not amount:
            return Valued()
        rate = self.rate(asset)
        return Valued(ZERO, (asset,)) if rate is None else Valued(amount * rate)

    def worth_of_all(self, amounts: Mapping[str, Decimal]) -> Valued:
        total = Valued()
        for asset, amount in amounts.items():
            total = total.plus(self.worth(amount, asset))
        return total

    @exact
    def converted(self, amount: Decimal, asset: str, into: str) -> Decimal | None:
        """An amount of one asset in another, by way of the reporting currency; None when either has no rate."""
        if asset == into or not amount:
            return amount
        source, target = self.rate(asset), self.rate(into)
        return None if source is None or not target else amount * source / target

    def _between(self, asset: str, other: str) -> Decimal | None:
        price = self.prices.get((asset, other))
        if price is not None:
            return price
        inverse = self.prices.get((other, asset))
        return ONE / inverse if inverse else None


def _united(first: tuple[str, ...], second: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted({*first, *second})) if first or second else ()
