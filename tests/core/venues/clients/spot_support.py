"""The spot venue that the independent clients trade on: a scripted market, so that figures can be had by hand.

The book: bids 99.99 x 2 and 99.98 x 3, asks 100.00 x 1 and 100.01 x 2. The account: 1,000,000 USDT and 20 BTC; fees
are a thousandth of what is received.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from core.venues.paper.events import BookTicker, DepthDiff, Trade
from core.venues.paper.server import PaperVenue
from core.venues.paper.signing import Credentials
from tests.core.venues.paper.support import d

TIMEOUT_S = 60.0
SYMBOL = "BTCUSDT"


class Ed25519:
    """A key pair as a client has it, and its public half as the venue has it."""

    def __init__(self, key: str) -> None:
        private = Ed25519PrivateKey.generate()
        self.key = key
        self.private_pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
        public = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        self.credentials = Credentials(key, public_key_pem=public.decode())


class Floor:
    """The running venue, and what the market does on it. Events are taken at once, in the caller's turn."""

    def __init__(self, venue: PaperVenue, ed25519: Ed25519) -> None:
        self.venue = venue
        self.ed25519 = ed25519
        self.rest = venue.base_url
        self.streams = venue.websocket_url
        self.websocket_api = f"{venue.websocket_url}/ws-api/v3"
        self._update_id = 100
        self._trade_id = 0

    def trade(self, price: str, *quantities: str, is_sell: bool = True) -> None:
        """One taker's trades at one price."""
        now_ms = self.venue.exchange.now_ms()
        for quantity in quantities or ("0.01",):
            self._trade_id += 1
            trade = Trade(SYMBOL, now_ms, now_ms, self._trade_id, d(price), d(quantity), is_sell)
            self.venue.exchange.on_market(trade)

    def depth(self, *, bids: tuple[tuple[str, str], ...] = (), asks: tuple[tuple[str, str], ...] = ()) -> None:
        first = self._update_id + 1
        self._update_id += 2
        levels = [tuple((d(price), d(quantity)) for price, quantity in side) for side in (bids, asks)]
        now_ms = self.venue.exchange.now_ms()
        self.venue.exchange.on_market(DepthDiff(SYMBOL, now_ms, first, self._update_id, *levels))

    def ticker(self, bid: str, ask: str) -> None:
        self._update_id += 1
        self.venue.exchange.on_market(BookTicker(SYMBOL, self._update_id, d(bid), d("1"), d(ask), d("1")))

    def balance(self, asset: str) -> tuple[int, int]:
        """(free, locked) as the venue has it, at scale 8."""
        balance = self.venue.exchange.account.matching.balances.of(asset)
        return balance.free, balance.locked


async def until(is_true: Callable[[], bool]) -> None:
    """Some clients tell nobody when their subscription is made: the venue is looked at instead."""
    while not is_true():  # noqa: ASYNC110
        await asyncio.sleep(0.005)
