"""Which adapter the settings give, and what stops it."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.config import ConfigurationError, load_settings
from core.types.clock import SystemClock
from core.venues.binance.adapter import BinanceSpot
from core.venues.binance.usdm import BinanceUsdm
from core.venues.connect import connect_venue

URLS = {"VELOZ_VENUE__REST_URL": "http://127.0.0.1:9", "VELOZ_VENUE__WEBSOCKET_URL": "ws://127.0.0.1:9"}


def with_key(home: Path) -> Path:
    (home / "secrets").mkdir()
    (home / "secrets" / "venue-paper.key").write_text("key")
    (home / "secrets" / "venue-paper.secret").write_text("secret")
    return home


@pytest.mark.parametrize(("product", "adapter"), [("spot", BinanceSpot), ("usdm", BinanceUsdm)])
@pytest.mark.parametrize("api_url", ["", "ws://127.0.0.1:9/ws-api/v3"])
async def test_the_product_and_the_way_orders_go_are_settings(
    tmp_path: Path, product: str, adapter: type, api_url: str
) -> None:
    more = {"VELOZ_VENUE__PRODUCT": product, "VELOZ_VENUE__WEBSOCKET_API_URL": api_url}
    venue = connect_venue(load_settings(with_key(tmp_path), URLS | more), SystemClock())
    assert type(venue) is adapter
    assert (venue.order_socket is not None) is bool(api_url)
    await venue.aclose()


@pytest.mark.parametrize("name", URLS)
def test_an_absent_address_is_named(tmp_path: Path, name: str) -> None:
    settings = load_settings(with_key(tmp_path), {key: value for key, value in URLS.items() if key != name})
    with pytest.raises(ConfigurationError, match=name):
        connect_venue(settings, SystemClock())


def test_an_absent_key_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"venue-paper\.key"):
        connect_venue(load_settings(tmp_path, URLS), SystemClock())
