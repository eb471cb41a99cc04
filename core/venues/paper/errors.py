"""Refusals in Binance's words (https://developers.binance.com/docs/binance-spot-api-docs/errors)."""

from __future__ import annotations

from typing import Any


class VenueError(Exception):
    """A refusal with Binance's numeric code, message and HTTP status; `data` tells more where Binance does."""

    def __init__(
        self,
        code: int,
        message: str,
        status: int = 400,
        headers: dict[str, str] | None = None,
        data: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status
        self.headers = headers or {}
        self.data = data

    def body(self) -> dict[str, Any]:
        """What the wire says."""
        body: dict[str, Any] = {"code": self.code, "msg": self.message}
        if self.data is not None:
            body["data"] = self.data
        return body


class PaperVenueError(Exception):
    """The venue can't run: the message says which part, why, and the cure."""


class MarketSourceError(PaperVenueError):
    """What settings key market.source names can't be played: starting again won't help."""


def missing_parameter(name: str) -> VenueError:
    return VenueError(-1102, f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed.")


def superfluous_parameter(name: str) -> VenueError:
    return VenueError(-1106, f"Parameter '{name}' sent when not required.")


def illegal_characters(name: str, legal: str) -> VenueError:
    return VenueError(-1100, f"Illegal characters found in parameter '{name}'; legal range is '{legal}'.")


def invalid_symbol() -> VenueError:
    return VenueError(-1121, "Invalid symbol.")


def filter_failure(name: str) -> VenueError:
    return VenueError(-1013, f"Filter failure: {name}")


def insufficient_balance() -> VenueError:
    return VenueError(-2010, "Account has insufficient balance for requested action.")


def duplicate_order() -> VenueError:
    return VenueError(-2010, "Duplicate order sent.")


def would_take() -> VenueError:
    return VenueError(-2010, "Order would immediately match and take.")


def unknown_order() -> VenueError:
    return VenueError(-2011, "Unknown order sent.")


def no_such_order() -> VenueError:
    return VenueError(-2013, "Order does not exist.")


def would_trigger() -> VenueError:
    return VenueError(-2010, "Stop price would trigger immediately.")


def wrong_pair_prices() -> VenueError:
    return VenueError(-2010, "The relationship of the prices for the orders is not correct.")


def restricted_cancel() -> VenueError:
    return VenueError(-2011, "Order was not canceled due to cancel restrictions.")


def wrong_client_id() -> VenueError:
    return VenueError(-2039, "Client order ID is not correct for this order ID.")


def unsupported_combination() -> VenueError:
    return VenueError(-1014, "Unsupported order combination.")
