"""What to tell about the paper venue's market before the service is called ready."""

from __future__ import annotations

import json
from http.client import HTTPException
from urllib.request import ProxyHandler, build_opener

TIMEOUT_S = 2.0

NO_SPOT = (
    "The market has USD-M perpetuals only ({symbols}); the engine trades spot, so it follows no book and the copilot "
    "has no prices. Say --product usdm to trade them, or give it a recording of spot. The perpetuals are at {url}/fapi "
    "for other clients too."
)
NO_PERPETUALS = (
    "The market has spot only ({symbols}); the engine trades USD-M perpetuals, so it follows no book and the copilot "
    "has no prices. Say --product spot, or give it a recording of USD-M, or --market synthetic."
)


def market_warning(venue_rest_url: str, product: str = "spot") -> str | None:
    """Blocking. A market that the engine can't trade in, in words; None when there is nothing to tell or to learn."""
    try:
        opener = build_opener(ProxyHandler({}))
        with opener.open(f"{venue_rest_url}/paper/v1/market", timeout=TIMEOUT_S) as answer:
            market = json.loads(answer.read())
        spot, perpetuals = list(market["symbols"]), list(market["usdmSymbols"])
    except (OSError, HTTPException, ValueError, KeyError, TypeError):
        return None
    wanted, others = (perpetuals, spot) if product == "usdm" else (spot, perpetuals)
    if wanted or not others:
        return None
    told = NO_PERPETUALS if product == "usdm" else NO_SPOT
    return told.format(symbols=", ".join(map(str, others)), url=venue_rest_url)
