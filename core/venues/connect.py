"""The venue that the settings name, connected with the key that is in the secrets."""

from __future__ import annotations

from core.config import ConfigurationError, Settings
from core.types.clock import Clock
from core.venues.binance.adapter import BinanceSpot
from core.venues.binance.signing import CredentialError, read_key_files
from core.venues.binance.usdm import BinanceUsdm

Venue = BinanceSpot | BinanceUsdm


def connect_venue(settings: Settings, clock: Clock) -> Venue:
    """Nothing is sent yet. Close it with `aclose`. Raises ConfigurationError."""
    venue = settings.venue
    for key, value in (("rest_url", venue.rest_url), ("websocket_url", venue.websocket_url)):
        if not value:
            raise ConfigurationError(f"venue.{key} is empty; `veloz up` sets it, or give VELOZ_VENUE__{key.upper()}")
    reference = f"venue-{venue.kind}"
    adapter: type[BinanceSpot | BinanceUsdm] = BinanceUsdm if venue.product == "usdm" else BinanceSpot
    try:
        key, secret = read_key_files(reference, settings.paths.secret)
        return adapter(
            venue.rest_url,
            key,
            secret,
            clock,
            venue.recv_window_ms,
            venue=venue.kind,
            websocket_url=venue.websocket_url,
            websocket_api_url=venue.websocket_api_url,
            key_reference=reference,
        )
    except CredentialError as error:
        raise ConfigurationError(str(error)) from error
