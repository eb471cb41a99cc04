"""What went wrong with a call, in typed errors and in words that name the cure; and what that says of a submit.

Codes: https://developers.binance.com/docs/binance-spot-api-docs/errors and
https://developers.binance.com/docs/derivatives/usds-margined-futures/error-code.
"""

from __future__ import annotations

from core.types.codes import ReasonCode, Refusal
from core.types.instruments import Product
from core.venues.binance.limits import STATUS_BANNED
from core.venues.ports import (
    AmendRefused,
    AmendResult,
    AmendUnknown,
    SubmitRefused,
    SubmitResult,
    SubmitUnknown,
    VenueRateLimitedError,
    VenueUnavailableError,
)

STATUS_FORBIDDEN = 403
STATUS_UNAVAILABLE = 503

CODE_TIMESTAMP_OUTSIDE_WINDOW = -1021
CODE_SIGNATURE_INVALID = -1022
CODE_SYMBOL_UNKNOWN = -1121
CODE_LISTEN_KEY_UNKNOWN = -1125
CODE_RECV_WINDOW_INVALID = -1131
CODE_NEW_ORDER_REJECTED = -2010
CODE_CANCEL_REJECTED = -2011
CODE_NO_SUCH_ORDER = -2013
CODE_KEY_FORMAT_INVALID = -2014
CODE_ORDER_ARCHIVED = -2026
"""Canceled or expired unfilled more than 90 days ago."""
CODE_KEY_REJECTED = -2015
CODE_DUPLICATE_CLIENT_ID = -4116
CODE_POSITION_SIDE_MISMATCH = -4061
CODE_SERVER_BUSY = -1008
CODES_OF_KEYS = frozenset({CODE_KEY_FORMAT_INVALID, CODE_KEY_REJECTED, -2008})

DUPLICATE_ORDER = "duplicate order"
CODES_THAT_PROVE_NOTHING = frozenset({-1000, -1001, -1006, -1007})
"""Unknown error, disconnected, unexpected response, time-out: the order may have reached the matching engine."""
USDM_FAILED_MESSAGES = ("service unavailable", "internal error; unable to process your request")
"""USD-M's 503 with one of these "is a failure API operation"; of any other, and of all of spot's, the outcome is
unknown (general-info, HTTP 503 status: message variants and handling)."""


class BinanceApiError(VenueUnavailableError):
    """The venue answered, and not with success. code is 0 when the answer held none; cure says what to do about it."""

    def __init__(self, call: str, status: int, code: int, message: str, cure: str = "") -> None:
        super().__init__(f"{call}: HTTP {status}, venue code {code}: {message}" + (f" {cure}" if cure else ""))
        self.status = status
        self.code = code
        self.message = message
        self.cure = cure

    @property
    def is_transient(self) -> bool:
        return self.status >= 500


class BinanceRateLimitedError(BinanceApiError, VenueRateLimitedError):
    """The venue answered 429, or 418 when it has banned this address: nothing was executed, and nothing (or for too
    many orders: no order) is sent before retry_after_s have passed."""

    def __init__(self, call: str, status: int, code: int, message: str, retry_after_s: float) -> None:
        is_banned = status == STATUS_BANNED
        what = "this address is banned" if is_banned else "a rate limit is exceeded"
        super().__init__(call, status, code, message, f"({what}; nothing like it is sent for {retry_after_s:.1f} s)")
        self.retry_after_s = retry_after_s
        self.is_banned = is_banned
        self.nothing_sent = False


class BinanceTransportError(VenueUnavailableError):
    """No whole answer. nothing_sent is True only when no byte of the request can have left: no connection existed."""

    def __init__(self, call: str, detail: str, *, nothing_sent: bool) -> None:
        super().__init__(f"{call}: {detail}")
        self.nothing_sent = nothing_sent


def cure_of(status: int, code: int, *, reference: str, secret_file: str, symbol: str, base_url: str) -> str:
    """What to do about a code, naming the key's reference or the symbol, never a key."""
    if code in CODES_OF_KEYS:
        return (
            f"The venue at {base_url} doesn't take the API key {reference!r}: check that {reference}.key was made for "
            "that environment, that its IP list holds this machine, and that it may do this."
        )
    if code == CODE_SIGNATURE_INVALID:
        return f"{secret_file} doesn't belong to {reference}.key: store the secret that was made with that key."
    if code == CODE_SYMBOL_UNKNOWN:
        return f"The venue at {base_url} doesn't list the symbol {symbol!r}: check its spelling and the market."
    if code == CODE_TIMESTAMP_OUTSIDE_WINDOW:
        return "The venue's clock and its estimate here were apart; it is estimated anew before the next signed call."
    if code == CODE_RECV_WINDOW_INVALID:
        return "Set venue.recv_window_ms to at most 60000."
    if code == CODE_POSITION_SIDE_MISMATCH:
        return "The account is in hedge mode: switch it to one-way mode at the venue."
    if status == STATUS_FORBIDDEN and code == 0:
        return f"A firewall at {base_url} refused this address: too many requests, or a place it doesn't serve."
    return ""


def submit_outcome(error: VenueUnavailableError, product: Product) -> SubmitResult:
    """What is known of an order after a submit that didn't succeed (I5).

    Refused means that the venue answered no, or that provably no byte left; everything else is unknown.
    """
    if isinstance(error, BinanceApiError) and _is_duplicate(error):
        return SubmitUnknown(str(error))
    refusal = definite_refusal(error, product, "The order was not placed")
    return SubmitUnknown(str(error)) if refusal is None else SubmitRefused(refusal)


def amend_outcome(error: VenueUnavailableError, product: Product) -> AmendResult:
    """What is known of an amendment that didn't succeed, as `submit_outcome`."""
    refusal = definite_refusal(error, product, "The order was not amended")
    return AmendUnknown(str(error)) if refusal is None else AmendRefused(refusal)


def definite_refusal(error: VenueUnavailableError, product: Product, what: str) -> Refusal | None:
    """The refusal when nothing was executed, for certain; None when that can't be known."""
    match error:
        case VenueRateLimitedError():
            return Refusal(
                ReasonCode.ORDER_RATE_LIMITED, f"{what}: {error}", actual=f"{error.retry_after_s:.1f}", unit="s"
            )
        case BinanceTransportError(nothing_sent=True):
            return Refusal(
                ReasonCode.RISK_VENUE_DISCONNECTED,
                f"The venue can't be reached and nothing was sent: {error}. Try again when it is back.",
            )
        case BinanceApiError() if _answered_no(error, product):
            return venue_refusal(error.code, error.message, error.cure)
        case _:
            return None


def venue_refusal(code: int, message: str, cure: str = "") -> Refusal:
    """The venue's no, with its own code and words."""
    return Refusal(
        ReasonCode.ORDER_REJECTED_BY_VENUE,
        f"The venue refused the order: {code} {message}" + (f" {cure}" if cure else ""),
        actual=str(code),
        unit="venue_code",
    )


def _answered_no(error: BinanceApiError, product: Product) -> bool:
    if error.status == STATUS_UNAVAILABLE:
        if error.code == CODE_SERVER_BUSY:
            return True
        return product is Product.USDM and error.message.lower().startswith(USDM_FAILED_MESSAGES)
    return 400 <= error.status < 500 and error.code != 0 and error.code not in CODES_THAT_PROVE_NOTHING


def _is_duplicate(error: BinanceApiError) -> bool:
    """An order with this id is open, and only this intent has this id."""
    if error.code == CODE_DUPLICATE_CLIENT_ID:
        return True
    return error.code == CODE_NEW_ORDER_REJECTED and error.message.lower().startswith(DUPLICATE_ORDER)
