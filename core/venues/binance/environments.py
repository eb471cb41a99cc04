"""Where Binance is: base URLs by environment and product. Any of them can be overridden.

Sources: https://developers.binance.com/docs/binance-spot-api-docs (General API Information, testnet, demo mode) and
https://developers.binance.com/docs/derivatives/usds-margined-futures/general-info. USD-M serves depth and bookTicker
under /public, trades and klines under /market, and the user data stream under /private.
"""

from __future__ import annotations

import msgspec

from core.types.instruments import Product

MAINNET, TESTNET, DEMO = "mainnet", "testnet", "demo"


class Environment(msgspec.Struct, frozen=True):
    """Base URLs without a trailing slash. public_stream_url carries depth and bookTicker, market_stream_url trades;
    websocket_api_url is empty where the user data stream is reached by listen key."""

    rest_url: str
    public_stream_url: str
    market_stream_url: str
    user_stream_url: str
    websocket_api_url: str = ""

    def overridden(
        self, *, rest_url: str = "", websocket_url: str = "", websocket_api_url: str | None = None
    ) -> Environment:
        """The same with other base URLs where they are given: websocket_url stands for all three kinds of streams.
        websocket_api_url of "" goes back to listen keys."""
        streams = websocket_url.rstrip("/")
        return Environment(
            rest_url.rstrip("/") or self.rest_url,
            streams or self.public_stream_url,
            streams or self.market_stream_url,
            streams or self.user_stream_url,
            self.websocket_api_url if websocket_api_url is None else websocket_api_url,
        )


def _spot(rest_url: str, stream_url: str, websocket_api_url: str) -> Environment:
    return Environment(rest_url, stream_url, stream_url, stream_url, websocket_api_url)


def _usdm(rest_url: str, stream_url: str) -> Environment:
    return Environment(rest_url, f"{stream_url}/public", f"{stream_url}/market", f"{stream_url}/private")


ENVIRONMENTS: dict[tuple[Product, str], Environment] = {
    (Product.SPOT, MAINNET): _spot(
        "https://api.binance.com", "wss://stream.binance.com:9443", "wss://ws-api.binance.com:443/ws-api/v3"
    ),
    (Product.SPOT, TESTNET): _spot(
        "https://testnet.binance.vision",
        "wss://stream.testnet.binance.vision",
        "wss://ws-api.testnet.binance.vision/ws-api/v3",
    ),
    (Product.SPOT, DEMO): _spot(
        "https://demo-api.binance.com",
        "wss://demo-stream.binance.com:9443",
        "wss://demo-ws-api.binance.com/ws-api/v3",
    ),
    (Product.USDM, MAINNET): _usdm("https://fapi.binance.com", "wss://fstream.binance.com"),
    (Product.USDM, TESTNET): _usdm("https://testnet.binancefuture.com", "wss://fstream.binancefuture.com"),
    (Product.USDM, DEMO): _usdm("https://demo-fapi.binance.com", "wss://fstream.binancefuture.com"),
}


def environment_of(product: Product, name: str) -> Environment:
    """Raises ValueError that names what there is."""
    found = ENVIRONMENTS.get((product, name))
    if found is None:
        known = sorted(known_name for known_product, known_name in ENVIRONMENTS if known_product is product)
        raise ValueError(f"{product} has no environment {name!r}; known are {', '.join(known) or 'none'}")
    return found
