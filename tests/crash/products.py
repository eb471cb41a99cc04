"""What is traded: the symbols of one product, how much of each, and where the venue speaks of it."""

from __future__ import annotations

from decimal import Decimal

import msgspec


class Terms(msgspec.Struct, frozen=True):
    """An order's usual size in the base asset, and what prices and quantities are multiples of."""

    size: Decimal
    tick: Decimal
    step: Decimal


class Product(msgspec.Struct, frozen=True):
    """path is that of the venue's WebSocket, api_path of its WebSocket API."""

    name: str
    path: str
    api_path: str
    symbols: dict[str, Terms]


def _terms(size: str, tick: str, step: str) -> Terms:
    return Terms(Decimal(size), Decimal(tick), Decimal(step))


SPOT = Product(
    "spot",
    "",
    "/ws-api/v3",
    {
        "BTCUSDT": _terms("0.002", "0.01", "0.00001"),
        "ETHUSDT": _terms("0.04", "0.01", "0.0001"),
        "SOLUSDT": _terms("0.8", "0.01", "0.001"),
    },
)
USDM = Product(
    "usdm",
    "/usdm",
    "/usdm/ws-fapi/v1",
    {
        "BTCUSDT": _terms("0.006", "0.1", "0.001"),
        "ETHUSDT": _terms("0.05", "0.01", "0.001"),
        "SOLUSDT": _terms("0.8", "0.01", "0.01"),
    },
)
PRODUCTS = {product.name: product for product in (SPOT, USDM)}
