"""Instruments: what can be traded and in which steps."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Product(StrEnum):
    """What kind of market: spot, or perpetual futures margined in the quote asset (USD-M) or in the coin (COIN-M)."""

    SPOT = "SPOT"
    USDM = "USDM"
    COINM = "COINM"


class Instrument(msgspec.Struct, frozen=True):
    """A tradable pair and the rules of the venue that are in force.

    Prices are ints at price_scale, quantities ints at quantity_scale; a notional (price x quantity) is an int at
    price_scale + quantity_scale. The scales never change for an instrument's life; tick, lot and filters may, and
    each change raises `version`.
    """

    venue: str
    symbol: str
    base_asset: str
    quote_asset: str
    price_scale: int
    quantity_scale: int
    tick_size: int
    lot_size: int
    min_quantity: int
    max_quantity: int
    min_notional: int
    version: int = 1
    product: Product = Product.SPOT

    @property
    def notional_scale(self) -> int:
        return self.price_scale + self.quantity_scale
