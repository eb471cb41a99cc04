"""The simulated house: its instruments, people and keys, the rules it goes by, and what it signs."""

from __future__ import annotations

from decimal import Decimal
from functools import lru_cache

import msgspec

from core.authority.administration import AdministrationDocument, administration_bytes, sign_administration
from core.authority.documents import document_digest, signed_message
from core.authority.mandate import MANDATE_SCHEMA, mandate_bytes, sign_mandate
from core.authority.proposal import PROPOSAL_SCHEMA, Proposal
from core.authority.roster import SignedRoster, sign_roster
from core.authority.session import REQUEST_DOMAIN_TAG, SESSION_SCHEMA, grant_bytes, sign_session
from core.authority.signatures import public_key_hex, sign_bytes
from core.types.authority import Mandate, SessionAuthority, SessionGrant
from core.types.clock import NS_PER_S
from core.types.events import Roster, RosterEntry
from core.types.instruments import Instrument
from core.types.money import decimal_text, from_scaled
from core.types.orders import OrderRequest

ENGINE_ID = "engine-sim"
ENVIRONMENT = "local"
MODE = "PAPER"
ACCOUNT = "acct-sim"
VENUE = "paper"
REPORTING = "USDT"
START_NS = 1_800_000_000 * NS_PER_S
ROOT_SEED = "11" * 32
APPROVER_SEED = "22" * 32
TRADER_SEED = "44" * 32
SESSION_KEY_SEED = "55" * 32
ROOT_PUBLIC_KEY = public_key_hex(ROOT_SEED)
APPROVER, TRADER = "user-approver", "user-trader"
STRATEGIES = ("maker", "taker")

BTC = Instrument(VENUE, "BTCUSDT", "BTC", "USDT", 1, 4, 10, 10, 10, 9_000_000, 500_000)
ETH = Instrument(VENUE, "ETHUSDT", "ETH", "USDT", 2, 3, 10, 10, 10, 9_000_000, 500_000)
CROSS = Instrument(VENUE, "ETHBTC", "ETH", "BTC", 5, 3, 1, 10, 10, 9_000_000, 10_000)
INSTRUMENTS = (BTC, ETH, CROSS)
FIRST_BIDS = {"BTCUSDT": 600_000, "ETHUSDT": 300_000, "ETHBTC": 5_000}

ROSTER = Roster(
    version=1,
    entries=(
        RosterEntry("approver", APPROVER, public_key_hex(APPROVER_SEED), (ACCOUNT,), True),
        RosterEntry("trader", TRADER, public_key_hex(TRADER_SEED), (ACCOUNT,), True),
    ),
    two_approvals_above_quote="100000000",
)

LIMITS: dict[str, str] = {
    "max_notional_per_order_quote": '"2000"',
    "max_quantity_per_order": '"1"',
    "price_collar_bps": "400",
    "mark_collar_bps": "400",
    "max_deviation_bps": "50",
    "max_depth_share_bps": "5000",
    "max_position_notional_quote": '"2400"',
    "max_gross_exposure_quote": '"5200"',
    "max_net_exposure_quote": '"4600"',
    "max_leverage": '"1"',
    "max_open_orders": "7",
    "max_daily_loss_quote": '"4000"',
    "max_drawdown_bps": "500",
    "order_rate": "{count = 5, window_ms = 1000}",
    "amend_rate": "{count = 3, window_ms = 1000}",
    "cancel_rate": "{count = 1000, window_ms = 1000}",
    "repeated_intent": "{count = 2, window_ms = 3000}",
    "book_stale_after_ms": "2000",
    "user_stream_lost_after_s": "20",
    "dead_mans_timer_s": '"off"',
    "time_zone": '"UTC"',
}
LEVELS = {
    f"account.{ACCOUNT}": {"max_open_orders": "6"},
    "strategy.maker": {"max_quantity_per_order": '"0.9"', "order_rate": "{count = 6, window_ms = 2000}"},
    "symbol.ETHBTC": {"max_position_notional_quote": '"1500"'},
}
TIGHTENINGS: tuple[dict[str, str], ...] = (
    {"max_open_orders": "3"},
    {"max_notional_per_order_quote": '"900"'},
    {"order_rate": "{count = 2, window_ms = 1000}"},
    {"max_gross_exposure_quote": '"3000"', "max_net_exposure_quote": '"2500"'},
    {"max_position_notional_quote": '"1200"', "price_collar_bps": "50"},
    {"max_leverage": '"0.02"', "max_daily_loss_quote": '"60"'},
    {"dead_mans_timer_s": "4"},
)
"""What a reload makes of the rules."""


@lru_cache
def rules_document(tightening: int = -1) -> str:
    """A whole rules file; -1 for the one that the engine starts with."""
    limits = {**LIMITS, **(TIGHTENINGS[tightening] if tightening >= 0 else {})}
    lines = ['schema = "veloz.risk-limits/2"', "[global]", *(f"{name} = {value}" for name, value in limits.items())]
    for level, values in LEVELS.items():
        lines += [f"[{level}]", *(f"{name} = {value}" for name, value in values.items())]
    return "\n".join(lines) + "\n"


@lru_cache
def signed_roster() -> SignedRoster:
    return sign_roster(ROOT_SEED, ROSTER)


@lru_cache
def signed_mandate(strategy: str, generation: int = 0) -> tuple[bytes, tuple[tuple[str, bytes], ...]]:
    mandate = Mandate(
        schema=MANDATE_SCHEMA,
        mandate_id=mandate_id(strategy, generation),
        engine_id=ENGINE_ID,
        environment=ENVIRONMENT,
        mode=MODE,
        account_id=ACCOUNT,
        strategy_id=strategy,
        strategy_digest_hex="ab" * 32,
        public_key_hex="",
        venue=VENUE,
        symbols=("BTCUSDT", "ETHUSDT") if strategy == "maker" else ("BTCUSDT", "ETHUSDT", "ETHBTC"),
        max_order_notional_quote="1900",
        max_position_notional_quote="3300",
        max_total_notional_quote="40000",
        max_open_orders="5",
        issued_at_ns=str(START_NS),
        expires_at_ns=str(START_NS + 24 * 3600 * NS_PER_S),
        asker_id=TRADER,
    )
    return mandate_bytes(mandate), (("approver", sign_mandate(APPROVER_SEED, mandate)),)


def mandate_id(strategy: str, generation: int = 0) -> str:
    """generation: how many before it were revoked."""
    return f"mandate-{strategy}-{generation}" if generation else f"mandate-{strategy}"


@lru_cache
def signed_session(session_id: str) -> tuple[bytes, str, bytes]:
    grant = SessionGrant(
        schema=SESSION_SCHEMA,
        session_id=session_id,
        engine_id=ENGINE_ID,
        environment=ENVIRONMENT,
        mode=MODE,
        user_id=TRADER,
        public_key_hex=public_key_hex(SESSION_KEY_SEED),
        account_ids=(ACCOUNT,),
        max_order_notional_quote="1800",
        max_total_notional_quote="20000",
        max_orders="25",
        issued_at_ns=str(START_NS),
        expires_at_ns=str(START_NS + 11 * 3600 * NS_PER_S),
    )
    return grant_bytes(grant), "trader", sign_session(TRADER_SEED, grant)


def session_request(session_id: str, what: object) -> tuple[SessionAuthority, bytes]:
    """A request as the session's key signs it, and its bytes."""
    content = msgspec.json.encode(what)
    message = signed_message(REQUEST_DOMAIN_TAG, content)
    digest = document_digest(REQUEST_DOMAIN_TAG, content)
    return SessionAuthority(session_id, TRADER, digest, sign_bytes(SESSION_KEY_SEED, message).hex()), content


def proposed_order(request: OrderRequest, reference_price: Decimal, instrument: Instrument, now_ns: int) -> Proposal:
    """The order in the first schema; its request_id is the suggestion's."""
    price = "" if request.price is None else decimal_text(from_scaled(request.price, instrument.price_scale))
    quantity = from_scaled(request.quantity, instrument.quantity_scale)
    worth = reference_price if request.price is None else Decimal(price)
    return Proposal(
        schema=PROPOSAL_SCHEMA,
        suggestion_id=request.request_id,
        version="1",
        environment=ENVIRONMENT,
        mode=MODE,
        engine_id=ENGINE_ID,
        account_id=ACCOUNT,
        venue=VENUE,
        symbol=request.symbol,
        instrument_version="1",
        side=request.side,
        order_type=request.order_type,
        time_in_force=request.time_in_force,
        quantity=decimal_text(quantity),
        price=price,
        post_only="true" if request.post_only else "false",
        reduce_only="true" if request.reduce_only else "false",
        notional_quote=decimal_text(quantity * worth),
        reference_price=decimal_text(reference_price),
        max_deviation_bps="50",
        asker_id=TRADER,
        run_id="run-sim",
        trace_id="",
        created_at_ns=str(now_ns),
        expires_at_ns=str(now_ns + 120 * NS_PER_S),
    )


def administration(
    kind: str, document_id: str, body: dict[str, str], now_ns: int
) -> tuple[bytes, list[tuple[str, bytes]]]:
    """A document of administration under the root key."""
    content = administration_bytes(
        AdministrationDocument(
            document_id=document_id,
            engine_id=ENGINE_ID,
            kind=kind,
            body=body,
            issued_at_ns=str(now_ns),
            expires_at_ns=str(now_ns + 600 * NS_PER_S),
            requested_by="ops",
        )
    )
    return content, [("root", sign_administration(ROOT_SEED, content))]
