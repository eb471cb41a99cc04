"""A venue of our own making, written as recordings are: books that change at random, and all frames of it."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from random import Random

from core.types.instruments import Product

START_NS = 1_723_161_600_000_000_000
STEP_NS = 100_000_000


class LineMarket:
    """One symbol. Every step is a depth message over a few updates, a bookTicker for each of them, and now and then a
    trade. Bids stay below asks, so that nothing but the sequence can give a loss away."""

    def __init__(self, product: Product, symbol: str, seed: int, *, places: int = 2, levels: int = 40) -> None:
        self.product, self.symbol, self.random, self.places = product, symbol, Random(seed), places
        self.update_id = self.random.randint(10**6, 10**9)
        self.mid = 10_000
        self.bids = {self.mid - 1 - n: self.random.randint(1, 9) for n in range(levels)}
        self.asks = {self.mid + 1 + n: self.random.randint(1, 9) for n in range(levels)}
        self.now_ns = START_NS + self.random.randint(0, 10**6)
        self.trade_id = 0
        self.lines: list[bytes] = []

    def steps(self, count: int) -> LineMarket:
        for _ in range(count):
            self._step()
        return self

    def snapshot(self, limit: int | None = None, *, late_steps: int = 0) -> LineMarket:
        """The REST snapshot of now, which arrives late_steps later."""
        body = self._snapshot(limit)
        self.steps(late_steps)
        self._write(body)
        return self

    def _snapshot(self, limit: int | None) -> dict[str, object]:
        bids = sorted(self.bids.items(), reverse=True)[:limit]
        asks = sorted(self.asks.items())[:limit]
        body: dict[str, object] = {"lastUpdateId": self.update_id}
        if self.product is not Product.SPOT:
            body |= {"E": self.now_ns // 10**6, "T": self.now_ns // 10**6}
        if self.product is Product.COINM:
            body |= {"symbol": self.symbol, "pair": self.symbol.partition("_")[0]}
        return body | {"bids": self._levels(bids), "asks": self._levels(asks)}

    def other(self, data: dict[str, object], stream: str) -> LineMarket:
        """A frame of a stream that nobody here reads."""
        self._write({"stream": f"{self.symbol.lower()}@{stream}", "data": data})
        return self

    def _step(self) -> None:
        self.now_ns += STEP_NS
        previous, first = self.update_id, 0
        bids: dict[int, int] = {}
        asks: dict[int, int] = {}
        for _ in range(self.random.randint(1, 5)):
            # Futures number the updates of all symbols together, so that ids are left out.
            self.update_id += 1 if self.product is Product.SPOT else self.random.randint(1, 9)
            first = first or self.update_id
            self._change(bids, asks)
            self._ticker()
        data: dict[str, object] = {"e": "depthUpdate", "E": self.now_ns // 10**6, "s": self.symbol}
        if self.product is Product.COINM:
            data["ps"] = self.symbol.partition("_")[0]
        data |= {"U": first, "u": self.update_id}
        if self.product is not Product.SPOT:
            data["pu"] = previous
        data |= {"b": self._levels(list(bids.items())), "a": self._levels(list(asks.items()))}
        self._write({"stream": f"{self.symbol.lower()}@depth@100ms", "data": data})
        if self.random.random() < 0.3:
            self._trade()

    def _change(self, bids: dict[int, int], asks: dict[int, int]) -> None:
        self.mid += self.random.choice((-1, 0, 0, 0, 1))
        for price in [price for price in self.bids if price >= self.mid]:
            del self.bids[price]
            bids[price] = 0
        for price in [price for price in self.asks if price <= self.mid]:
            del self.asks[price]
            asks[price] = 0
        for side, changed, sign in ((self.bids, bids, -1), (self.asks, asks, 1)):
            near, far = self.mid + sign, self.mid + sign * self.random.randint(2, 45)
            for price in {near, far}:
                quantity = self.random.randint(1, 9) if price == near else self.random.choice((0, 3, 7))
                changed[price] = quantity
                if quantity:
                    side[price] = quantity
                else:
                    side.pop(price, None)

    def _ticker(self) -> None:
        bid, ask = max(self.bids), min(self.asks)
        data: dict[str, object] = {} if self.product is Product.SPOT else {"e": "bookTicker"}
        data |= {"u": self.update_id, "s": self.symbol}
        if self.product is Product.COINM:
            data["ps"] = self.symbol.partition("_")[0]
        data |= {"b": self._price(bid), "B": self._quantity(self.bids[bid])}
        data |= {"a": self._price(ask), "A": self._quantity(self.asks[ask])}
        if self.product is not Product.SPOT:
            data |= {"T": self.now_ns // 10**6, "E": self.now_ns // 10**6}
        self._write({"stream": f"{self.symbol.lower()}@bookTicker", "data": data})

    def _trade(self) -> None:
        self.trade_id += 1
        moment = self.now_ns // 10**6
        data = {"e": "trade", "E": moment, "s": self.symbol, "t": self.trade_id, "p": self._price(self.mid)}
        data |= {"q": self._quantity(2), "T": moment, "m": True}
        data |= {"M": True} if self.product is Product.SPOT else {"X": "MARKET"}
        self._write({"stream": f"{self.symbol.lower()}@trade", "data": data})

    def _levels(self, levels: list[tuple[int, int]]) -> list[list[str]]:
        return [[self._price(price), self._quantity(quantity)] for price, quantity in levels]

    def _price(self, ticks: int) -> str:
        text = f"{ticks / 10**self.places:.{self.places}f}"
        return f"{text}000000" if self.product is Product.SPOT else text

    def _quantity(self, lots: int) -> str:
        return str(lots) if self.product is Product.COINM else f"{lots / 1000:.3f}"

    def _write(self, body: dict[str, object]) -> None:
        self.now_ns += 1_000
        self.lines.append(b"%d %s" % (self.now_ns, json.dumps(body, separators=(",", ":")).encode()))


def market(
    product: Product, symbol: str, seed: int, *, before: int = 5, after: int = 150, late_steps: int = 0
) -> LineMarket:
    """A whole recording: some messages, the snapshot, the rest."""
    return LineMarket(product, symbol, seed).steps(before).snapshot(late_steps=late_steps).steps(after)


def merged(*markets: LineMarket) -> list[bytes]:
    """Several symbols in one file, by receive time."""
    return sorted((line for item in markets for line in item.lines), key=lambda line: int(line.partition(b" ")[0]))


def write(path: Path, lines: list[bytes]) -> Path:
    """gzip where the name says so."""
    data = b"".join(line + b"\n" for line in lines)
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path
