"""Halt the engine durably and cancel all open orders at the venue: `python -m core.canceller --reason "..."`.

Needs the settings, a key and the venue; neither engine, database, NATS nor api. It writes VELOZ_HOME/run/KILL first,
then cancels until the venue shows nothing open, and says what is left. Its own key is secrets/venue-<kind>-cancel.key
and .secret, and can only cancel where the venue allows that; Binance has no such permission: a key there may trade or
not. Without it the engine's key is used.

Exit codes: 0 nothing is open and KILL is durable; 1 orders are left, or it isn't known; 2 wrong usage or settings;
3 nothing is open, but KILL could not be made durable.
"""

from __future__ import annotations

import argparse
import asyncio
import getpass
import json
import signal
import sys
from pathlib import Path
from typing import Any

import structlog

from core.canceller.cancelling import Outcome, cancel_everything
from core.canceller.kill_file import KILL_NAME, write_kill_file
from core.config import ConfigurationError, Settings, load_settings
from core.types.clock import Clock, SystemClock
from core.types.instruments import Product
from core.venues.binance.rest import BinanceRest
from core.venues.binance.signing import CredentialError, read_key_files

EXIT_CLEAR, EXIT_LEFT, EXIT_CONFIGURATION, EXIT_NOT_HALTED = 0, 1, 2, 3
DEADLINE_S = 120.0
MAX_DEADLINE_S = 3_600.0


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m core.canceller", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--reason", required=True, help="kept in the KILL file")
    parser.add_argument("--deadline-s", type=float, default=DEADLINE_S, help="give up after this long (%(default)s)")
    parser.add_argument("--json", action="store_true", help="the result as JSON on stdout")
    options = parser.parse_args(arguments)
    if not 0 < options.deadline_s <= MAX_DEADLINE_S:
        parser.error(f"--deadline-s must be above 0 and at most {MAX_DEADLINE_S:.0f}")
    structlog.configure(logger_factory=lambda *_: structlog.PrintLogger(sys.stderr))
    try:
        settings = load_settings()
    except ConfigurationError as error:
        _say(str(error))
        return EXIT_CONFIGURATION
    code, result = asyncio.run(halt_and_cancel(settings, options.reason, options.deadline_s, SystemClock()))
    if options.json:
        print(json.dumps(result, indent=2))
    return code


async def halt_and_cancel(
    settings: Settings, reason: str, deadline_s: float, clock: Clock
) -> tuple[int, dict[str, Any]]:
    """The exit code and the result. KILL is durable before anything is sent; when it can't be, orders are cancelled
    nevertheless."""
    path = settings.paths.run / KILL_NAME
    result: dict[str, Any] = {"kill_file": str(path), "is_halted": False}
    try:
        line = f"{clock.now_ns()} canceller {getpass.getuser()}: {' '.join(reason.split())}"
        write_kill_file(path, line)
        result["is_halted"] = True
        _say(f"{path} is written: the engine is, and starts, HALTED while it exists")
    except (OSError, KeyError) as error:
        _say(f"{path} could not be made durable: {error}. Stop the engine by hand; orders are cancelled nevertheless")
    try:
        rest = _connect(settings, clock)
    except ConfigurationError as error:
        _say(str(error))
        return EXIT_CONFIGURATION, result | {"error": str(error)}
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        outcome = await cancel_everything(rest, deadline_s, stop, _say)
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
        await rest.aclose()
    return _conclude(outcome, result)


def _conclude(outcome: Outcome, result: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    result |= {
        "is_clear": outcome.is_clear,
        "canceled": outcome.canceled,
        "left": outcome.left,
        "rounds": outcome.rounds,
        "error": outcome.error,
    }
    if not outcome.is_clear:
        _say(f"NOT CLEAR: {outcome.error}")
        for order in outcome.left or ():
            _say(f"still open: {order['symbol']} {order['client_order_id']} ({order['venue_order_id']})")
        if outcome.left is None:
            _say("the venue never told which orders are open: look there")
        return EXIT_LEFT, result
    _say(f"the venue shows no open order; {len(outcome.canceled)} were open before")
    return EXIT_CLEAR if result["is_halted"] else EXIT_NOT_HALTED, result


def _connect(settings: Settings, clock: Clock) -> BinanceRest:
    """Raises ConfigurationError."""
    rest_url: str = settings.venue.rest_url
    product: str = settings.venue.product
    if not rest_url:
        rest_url, product = _running_venue(settings.paths.service_file, product)
    if not rest_url and settings.venue.port:
        rest_url = f"http://{settings.venue.host}:{settings.venue.port}"
    if not rest_url:
        raise ConfigurationError("venue.rest_url is empty; give VELOZ_VENUE__REST_URL")
    reference = f"venue-{settings.venue.kind}-cancel"
    if not settings.paths.secret(f"{reference}.key").exists():
        _say(f"{settings.paths.secret(reference + '.key')} doesn't exist: the engine's own key is used")
        reference = f"venue-{settings.venue.kind}"
    try:
        key, secret = read_key_files(reference, settings.paths.secret)
        return BinanceRest(
            rest_url,
            clock,
            api_key=key,
            api_secret=secret,
            key_reference=reference,
            product=Product.USDM if product == "usdm" else Product.SPOT,
            recv_window_ms=settings.venue.recv_window_ms,
        )
    except CredentialError as error:
        raise ConfigurationError(str(error)) from error


def _running_venue(service_file: Path, product: str) -> tuple[str, str]:
    """Where the running service has its venue, empty when there is none, and what it trades there: `veloz up` may have
    been told otherwise than the settings say."""
    try:
        service = json.loads(service_file.read_text())
        url, told = service["endpoints"]["venue_rest_url"], service.get("product", product)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return "", product
    return (url, told) if isinstance(url, str) and isinstance(told, str) else ("", product)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
