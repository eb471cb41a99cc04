"""Which recorded trades and imported klines there are, by the catalog's manifests alone."""

from __future__ import annotations

import msgspec

from core.storage.catalog import Catalog
from core.storage.frames import Kind

KINDS = (Kind.TRADE, Kind.AGG_TRADE, Kind.KLINE)


class Recorded(msgspec.Struct, frozen=True):
    """Recorded trades, or minutes' klines, of one symbol at one venue. Times are of receipt, of klines of opening."""

    venue: str
    kind: str
    first_ns: int
    last_ns: int


def recordings_of(catalog: Catalog, symbol: str) -> list[Recorded]:
    """By the manifests alone, the longest first. Raises CatalogError."""
    kinds = {kind.value for kind in KINDS}
    found = [
        Recorded(item.venue, item.type, item.first_ns, item.last_ns)
        for item in catalog.holdings()
        if item.symbol == symbol and item.type in kinds
    ]
    return sorted(found, key=lambda item: (item.first_ns - item.last_ns, item.venue, item.kind))
