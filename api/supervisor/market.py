"""What to tell about the paper venue's market before the service is called ready."""

from __future__ import annotations

import json
from http.client import HTTPException
from urllib.request import ProxyHandler, build_opener

TIMEOUT_S = 2.0

NO_SPOT = (
    "The market has USD-M perpetuals only ({symbols}); the engine trades spot, so it follows no book and the copilot "
    "has no prices. Give it a recording of spot, or --market synthetic. The perpetuals are at {url}/fapi for other "
    "clients, and `veloz data replay` takes such recordings."
)


def market_warning(venue_rest_url: str) -> str | None:
    """Blocking. A market that the engine can't trade in, in words; None when there is nothing to tell or to learn."""
    try:
        opener = build_opener(ProxyHandler({}))
        with opener.open(f"{venue_rest_url}/paper/v1/market", timeout=TIMEOUT_S) as answer:
            market = json.loads(answer.read())
        spot, perpetuals = list(market["symbols"]), list(market["usdmSymbols"])
    except (OSError, HTTPException, ValueError, KeyError, TypeError):
        return None
    if spot or not perpetuals:
        return None
    return NO_SPOT.format(symbols=", ".join(map(str, perpetuals)), url=venue_rest_url)
