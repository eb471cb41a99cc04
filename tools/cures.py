"""What each code of a refusal means and what to do about it: docs/refusals.md as data, which a test holds it to."""

from __future__ import annotations

from typing import NamedTuple

from core.types.codes import ReasonCode


class Cure(NamedTuple):
    meaning: str
    cure: str


CURES: dict[ReasonCode, Cure] = {
    ReasonCode.AUTH_CREDENTIALS_INVALID: Cure(
        "user name or password is wrong",
        "log in again",
    ),
    ReasonCode.AUTH_TOKEN_INVALID: Cure(
        "no access token, or one that this service didn't give, or whose user was disabled or has another role by now",
        "log in at `/api/v1/auth/login`; for gRPC read `secrets/engine-control.token` again",
    ),
    ReasonCode.AUTH_TOKEN_EXPIRED: Cure(
        "the access token is older than ten minutes",
        "use the refresh token",
    ),
    ReasonCode.AUTH_REFRESH_REUSED: Cure(
        "a refresh token came twice, so its whole session was revoked",
        "log in again; if it wasn't you, change the password",
    ),
    ReasonCode.AUTH_ROLE_NOT_PERMITTED: Cure(
        "your role may not do this",
        "ask somebody whose role may",
    ),
    ReasonCode.AUTH_ACCOUNT_OUT_OF_SCOPE: Cure(
        "the account isn't one of yours",
        "name one that is, or have it granted",
    ),
    ReasonCode.AUTH_AGENT_REVOKED: Cure(
        "the agent was revoked or has expired, or its owner is disabled",
        "its owner makes a new one: `veloz agents create`",
    ),
    ReasonCode.AUTH_RATE_EXCEEDED: Cure(
        "too many requests, or too many readers of the journal",
        "wait, then ask more slowly",
    ),
    ReasonCode.REQUEST_INVALID: Cure(
        "a field is missing, unknown or can't be read",
        "correct the field that the message names",
    ),
    ReasonCode.REQUEST_TOO_LARGE: Cure(
        "the body is larger than the limit",
        "send less",
    ),
    ReasonCode.RESOURCE_NOT_FOUND: Cure(
        "there is no such thing, or not in your accounts",
        "check the id",
    ),
    ReasonCode.REQUEST_IN_PROGRESS: Cure(
        "a request with the same idempotency key is under way, or its answer was lost",
        "ask again in a moment; before you use a new key, see whether the suggestion is there",
    ),
    ReasonCode.IDEMPOTENCY_KEY_REUSED: Cure(
        "the same key came with another request",
        "use a new key",
    ),
    ReasonCode.TOOL_UNKNOWN: Cure(
        "the model asked for a tool that doesn't exist",
        "ask in other words",
    ),
    ReasonCode.TOOL_ARGUMENTS_INVALID: Cure(
        "a tool's arguments can't be read",
        "ask more exactly",
    ),
    ReasonCode.TOOL_NOT_PERMITTED: Cure(
        "your role may not use the tool",
        "ask somebody whose role may",
    ),
    ReasonCode.TOOL_RATE_EXCEEDED: Cure(
        "calls come faster than the policy's rates, or too many wait",
        "wait as long as the message says",
    ),
    ReasonCode.TOOL_BUDGET_EXCEEDED: Cure(
        "a budget of the question, of you for today, or of everybody for today is used up",
        "ask something smaller; `veloz budget` shows what is left",
    ),
    ReasonCode.TOOL_DEADLINE_EXCEEDED: Cure(
        "the tool didn't answer in time",
        "ask again",
    ),
    ReasonCode.TOOL_FAILED: Cure(
        "the tool broke",
        "ask again; the log has the trace",
    ),
    ReasonCode.TOOL_ARGUMENT_TAINTED: Cure(
        "after text from outside was read, an argument of a suggestion stood neither in what you said nor in "
        "a trusted result; the message names it, its value and its source",
        "say the value in your own words",
    ),
    ReasonCode.COPILOT_RUN_CANCELLED: Cure(
        "the run was cancelled",
        "ask again",
    ),
    ReasonCode.COPILOT_MODEL_FAILED: Cure(
        "the model didn't answer, or not with sense",
        "ask again, or use the offline planner",
    ),
    ReasonCode.COPILOT_BUDGET_EXCEEDED: Cure(
        "the policy's tokens, money or time for models are used up, or a price is missing",
        "wait, or have the policy's budget raised; `veloz budget` shows what is left",
    ),
    ReasonCode.POLICY_MODEL_NOT_PERMITTED: Cure(
        "the policy doesn't let that model call the tool",
        "ask yourself, or with another model",
    ),
    ReasonCode.POLICY_QUIET_HOURS: Cure(
        "nothing new is suggested or approved at this hour; cancels and the kill switch always are",
        "wait for the end that the message names",
    ),
    ReasonCode.POLICY_CONDITION_DENIED: Cure(
        "a condition of the policy said no, or couldn't be told",
        "its message says why",
    ),
    ReasonCode.POLICY_APPROVER_NOT_PERMITTED: Cure(
        "the policy doesn't let you approve that kind, account or amount",
        "ask an approver who may",
    ),
    ReasonCode.MARKET_INSTRUMENT_UNKNOWN: Cure(
        "the engine doesn't trade that symbol there",
        "check the spelling; `veloz doctor` lists the books",
    ),
    ReasonCode.MARKET_BOOK_STALE: Cure(
        "the book's sequence broke, it crossed, or it went silent; it resyncs by itself",
        "ask again in a second",
    ),
    ReasonCode.MARKET_DEPTH_INSUFFICIENT: Cure(
        "the visible book can't fill the order",
        "lower the quantity, or give a limit price",
    ),
    ReasonCode.MARKET_NO_DATA: Cure(
        "nothing, or too little, is known of that yet",
        "ask again in a moment; for a backtest record or import more",
    ),
    ReasonCode.RISK_NOTIONAL_EXCEEDS_MAX_PER_ORDER: Cure(
        "one order is worth too much",
        "lower the quantity",
    ),
    ReasonCode.RISK_QUANTITY_EXCEEDS_MAX_PER_ORDER: Cure(
        "one order is for too many units",
        "lower the quantity",
    ),
    ReasonCode.RISK_PRICE_OUTSIDE_COLLAR: Cure(
        "the price lies too far from the mid",
        "choose a nearer price",
    ),
    ReasonCode.RISK_PRICE_OUTSIDE_MARK_COLLAR: Cure(
        "the price lies too far from the mark, or the last trade",
        "choose a nearer price",
    ),
    ReasonCode.RISK_PRICE_DRIFT_EXCEEDS_MAX: Cure(
        "the market moved since the suggestion was made",
        "ask for a new suggestion",
    ),
    ReasonCode.RISK_DEPTH_SHARE_EXCEEDED: Cure(
        "the order would take too much of what the book shows",
        "lower the quantity, or wait",
    ),
    ReasonCode.RISK_POSITION_EXCEEDS_MAX: Cure(
        "with all open orders filled, the position could be worth too much",
        "lower the quantity, or cancel others",
    ),
    ReasonCode.RISK_GROSS_EXPOSURE_EXCEEDS_MAX: Cure(
        "the sizes of all positions, worst case, add up to too much",
        "reduce something first",
    ),
    ReasonCode.RISK_NET_EXPOSURE_EXCEEDS_MAX: Cure(
        "longs less shorts, worst case, are too much",
        "hedge or reduce first",
    ),
    ReasonCode.RISK_LEVERAGE_EXCEEDS_MAX: Cure(
        "exposure is too much for the equity, or that isn't known",
        "lower the quantity",
    ),
    ReasonCode.RISK_MARGIN_INSUFFICIENT: Cure(
        "the account's margin doesn't cover the order, or isn't known",
        "lower the quantity, or add margin",
    ),
    ReasonCode.RISK_BALANCE_INSUFFICIENT: Cure(
        "the account doesn't hold what the order would spend",
        "lower the quantity, or cancel what reserves it",
    ),
    ReasonCode.RISK_OPEN_ORDERS_EXCEED_MAX: Cure(
        "too many orders are open",
        "cancel some",
    ),
    ReasonCode.RISK_ORDER_RATE_EXCEEDED: Cure(
        "orders come too fast",
        "wait for the window to pass",
    ),
    ReasonCode.RISK_AMEND_RATE_EXCEEDED: Cure(
        "amendments come too fast",
        "wait for the window to pass",
    ),
    ReasonCode.RISK_CANCEL_RATE_EXCEEDED: Cure(
        "so many cancels that new orders wait; a cancel itself is never refused",
        "wait for the window to pass",
    ),
    ReasonCode.RISK_INTENT_REPEATED: Cure(
        "the same order came again and again",
        "see whether a program has run away",
    ),
    ReasonCode.RISK_INTENT_UNRESOLVED: Cure(
        "an order of that side was sent without an answer",
        "wait until it is resolved, see `veloz orders list`",
    ),
    ReasonCode.RISK_SELF_TRADE: Cure(
        "the order would meet the account's own",
        "cancel that one, or change the price",
    ),
    ReasonCode.RISK_DAILY_LOSS_EXCEEDED: Cure(
        "the day's loss has reached its limit; only what reduces goes through",
        "reduce; a new day, or an administrator, ends it",
    ),
    ReasonCode.RISK_DRAWDOWN_EXCEEDED: Cure(
        "the account is too far below its peak; only what reduces goes through",
        "reduce, or have the limit looked at",
    ),
    ReasonCode.RISK_KILL_SWITCH_ACTIVE: Cure(
        "the kill switch doesn't let it through",
        "`veloz risk state` says why; `veloz thaw` ends it",
    ),
    ReasonCode.RISK_ACCOUNT_FROZEN: Cure(
        "engine and venue disagree about the account",
        "`veloz reconcile`; if it stays, look at the venue's own page, then `veloz unfreeze`",
    ),
    ReasonCode.RISK_VENUE_DISCONNECTED: Cure(
        "the venue, or the account's own stream, is away",
        "wait; the engine reconnects by itself",
    ),
    ReasonCode.RISK_CUSTOM_RULE_REJECTED: Cure(
        "a rule of your own said no",
        "its message says why",
    ),
    ReasonCode.RISK_CUSTOM_RULE_NEEDS_TWO_APPROVALS: Cure(
        "a rule of your own wants two people",
        "have a second one approve",
    ),
    ReasonCode.RISK_RULES_INVALID: Cure(
        "a rules file isn't whole or not right",
        "correct the line that is named; the old rules stay in force",
    ),
    ReasonCode.ORDER_TICK_SIZE_VIOLATED: Cure(
        "a price isn't a multiple of the tick",
        "round it",
    ),
    ReasonCode.ORDER_LOT_SIZE_VIOLATED: Cure(
        "the quantity isn't a multiple of the lot",
        "round it",
    ),
    ReasonCode.ORDER_QUANTITY_BELOW_MIN: Cure(
        "less than the venue takes",
        "raise the quantity",
    ),
    ReasonCode.ORDER_QUANTITY_ABOVE_MAX: Cure(
        "more than the venue takes",
        "split the order",
    ),
    ReasonCode.ORDER_NOTIONAL_BELOW_MIN: Cure(
        "worth less than the venue takes",
        "raise the quantity",
    ),
    ReasonCode.ORDER_PRICE_MISSING: Cure(
        "the order needs a price that it lacks",
        "give one",
    ),
    ReasonCode.ORDER_WOULD_INCREASE_POSITION: Cure(
        "a reduce-only order is larger than what is left of the position",
        "lower the quantity",
    ),
    ReasonCode.ORDER_TYPE_NOT_SUPPORTED: Cure(
        "neither venue nor engine has that type",
        "choose another",
    ),
    ReasonCode.ORDER_TIME_IN_FORCE_NOT_SUPPORTED: Cure(
        "that time in force doesn't go with such an order",
        "choose another",
    ),
    ReasonCode.ORDER_STOP_PRICE_INVALID: Cure(
        "the stop would trigger at once",
        "put it on the other side of the last trade",
    ),
    ReasonCode.ORDER_EXPIRY_INVALID: Cure(
        "GTD without a time, or a time that can't be",
        "between a second and a year from now",
    ),
    ReasonCode.ORDER_GROUP_INVALID: Cure(
        "the orders of an OCO or a bracket don't belong together",
        "correct the one that is named",
    ),
    ReasonCode.ORDER_AMEND_INVALID: Cure(
        "the amendment changes nothing, or what can't be changed",
        "ask for another quantity or price",
    ),
    ReasonCode.ORDER_AMEND_PENDING: Cure(
        "an earlier amendment hasn't been answered",
        "wait for it",
    ),
    ReasonCode.ORDER_REQUEST_REPEATED: Cure(
        "the request was taken already, with other terms",
        "use a new request id",
    ),
    ReasonCode.ORDER_ALREADY_FINAL: Cure(
        "the order is over",
        "nothing",
    ),
    ReasonCode.ORDER_UNKNOWN: Cure(
        "the engine doesn't know the order",
        "check the id",
    ),
    ReasonCode.ORDER_NEVER_ARRIVED: Cure(
        "no answer came, and the venue says that it never had it: nothing was executed",
        "place it again",
    ),
    ReasonCode.ORDER_REJECTED_BY_VENUE: Cure(
        "the venue said no; its words are in the message",
        "do what they say",
    ),
    ReasonCode.ORDER_RATE_LIMITED: Cure(
        "the venue's rate limit stands in the way; nothing was executed",
        "wait a moment",
    ),
    ReasonCode.APPROVAL_DIGEST_MISMATCH: Cure(
        "what was signed isn't what is there",
        "look at it again and sign that",
    ),
    ReasonCode.APPROVAL_EXPIRED: Cure(
        "it came too late",
        "ask for a new suggestion, or make a new thaw",
    ),
    ReasonCode.APPROVAL_ALREADY_CONSUMED: Cure(
        "it was used already",
        "ask for a new suggestion",
    ),
    ReasonCode.APPROVAL_VERSION_SUPERSEDED: Cure(
        "a newer version exists",
        "look at that one",
    ),
    ReasonCode.APPROVAL_SUBJECT_CHANGED: Cure(
        "the order, the position or the mandate that the suggestion is about isn't any more as it was shown; "
        "nothing was done",
        "ask for a new suggestion",
    ),
    ReasonCode.APPROVAL_NOT_PENDING: Cure(
        "the suggestion isn't waiting any more",
        "look at its status",
    ),
    ReasonCode.APPROVAL_SIGNATURES_INSUFFICIENT: Cure(
        "more people have to sign",
        "have another approver sign",
    ),
    ReasonCode.APPROVAL_FIGURES_STALE: Cure(
        "what was shown is older than `approvals.figures_max_age_s`",
        "look at the new version, which has this moment's figures, and sign that",
    ),
    ReasonCode.APPROVAL_CLI_KEY_REQUIRED: Cure(
        "a passkey was used above the roster's `cli_only_above_quote`, or without one",
        "approve it with `veloz approve`",
    ),
    ReasonCode.APPROVAL_SELF_NOT_COUNTED: Cure(
        "where two are due, the asker's own doesn't count",
        "have another approver sign",
    ),
    ReasonCode.AUTHORITY_SIGNATURE_INVALID: Cure(
        "the signature isn't that key's over these bytes",
        "sign exactly what is sent",
    ),
    ReasonCode.AUTHORITY_SIGNER_UNKNOWN: Cure(
        "the key isn't in the roster",
        "`veloz roster show`; have it enrolled",
    ),
    ReasonCode.AUTHORITY_SIGNER_NOT_PERMITTED: Cure(
        "the key may not sign this, or not for that account",
        "ask somebody who may",
    ),
    ReasonCode.AUTHORITY_KEY_PAPER_ONLY: Cure(
        "a demo key was used where money is real",
        "use an enrolled key",
    ),
    ReasonCode.AUTHORITY_PROPOSAL_MALFORMED: Cure(
        "the proposal's bytes can't be read",
        "ask for a new suggestion",
    ),
    ReasonCode.AUTHORITY_DOCUMENT_MALFORMED: Cure(
        "a ticket, session, mandate or administration can't be read; the message says where",
        "correct it",
    ),
    ReasonCode.AUTHORITY_DOCUMENT_EXPIRED: Cure(
        "the document's time is over",
        "make and sign a new one",
    ),
    ReasonCode.AUTHORITY_DOCUMENT_REPLAYED: Cure(
        "a document with that id was used already",
        "make one with a new id",
    ),
    ReasonCode.AUTHORITY_WRONG_ENGINE: Cure(
        "it names another engine or environment",
        "make one for this engine",
    ),
    ReasonCode.AUTHORITY_WRONG_MODE: Cure(
        "it names another mode",
        "make one for this mode",
    ),
    ReasonCode.AUTHORITY_INSTRUMENT_VERSION_STALE: Cure(
        "the venue changed the instrument since",
        "ask for a new suggestion",
    ),
    ReasonCode.AUTHORITY_KIND_NOT_ACCEPTED: Cure(
        "that kind of authority doesn't do this: loosening needs an administrator, an order a session, a "
        "mandate or an approval",
        "use the kind that is named",
    ),
    ReasonCode.AUTHORITY_SESSION_UNKNOWN: Cure(
        "the engine doesn't know the session",
        "`veloz session open`",
    ),
    ReasonCode.AUTHORITY_SESSION_EXPIRED: Cure(
        "the session's time is over",
        "`veloz session open`",
    ),
    ReasonCode.AUTHORITY_SESSION_REVOKED: Cure(
        "the session was closed, or its user's key left the roster",
        "`veloz session open`",
    ),
    ReasonCode.AUTHORITY_SESSION_LIMIT_EXCEEDED: Cure(
        "more than the session allows: one order, all orders, or how many",
        "a smaller order, or a new session",
    ),
    ReasonCode.AUTHORITY_MANDATE_UNKNOWN: Cure(
        "the engine doesn't know the mandate",
        "have one approved and installed",
    ),
    ReasonCode.AUTHORITY_MANDATE_EXPIRED: Cure(
        "the mandate's time is over",
        "have a new one approved",
    ),
    ReasonCode.AUTHORITY_MANDATE_REVOKED: Cure(
        "the mandate was taken away",
        "have a new one approved",
    ),
    ReasonCode.AUTHORITY_MANDATE_LIMIT_EXCEEDED: Cure(
        "more than the mandate allows, or another account, symbol or strategy",
        "stay within it, or have another approved",
    ),
    ReasonCode.AUTHORITY_PARENT_UNKNOWN: Cure(
        "the order that it follows isn't known",
        "place the parent first",
    ),
    ReasonCode.SERVICE_ENGINE_UNAVAILABLE: Cure(
        "the engine, or its venue, doesn't answer",
        "again in a few seconds; `veloz doctor`",
    ),
    ReasonCode.SERVICE_JOURNAL_UNAVAILABLE: Cure(
        "the engine can't write its journal (full disk?): no order is taken, cancels go on",
        "make room; it heals by itself",
    ),
    ReasonCode.SERVICE_AUDIT_UNAVAILABLE: Cure(
        "the audit record can't be written, so nothing was done",
        "see to the database",
    ),
    ReasonCode.SERVICE_DATABASE_UNAVAILABLE: Cure(
        "the database doesn't answer",
        "again in a few seconds; `veloz doctor`",
    ),
    ReasonCode.SERVICE_EVENT_LOG_UNAVAILABLE: Cure(
        "NATS doesn't answer",
        "again in a few seconds; `veloz doctor`",
    ),
    ReasonCode.SERVICE_INTERNAL_ERROR: Cure(
        "a fault of ours; the log has the trace id",
        "report it",
    ),
    ReasonCode.SERVICE_POLICY_INVALID: Cure(
        "the gateway's policy file can't be used, so nothing is allowed",
        "correct the line that is named; it is looked at again by itself",
    ),
    ReasonCode.SERVICE_OVERLOADED: Cure(
        "too much is under way",
        "again in a moment",
    ),
    ReasonCode.SERVICE_CLOCK_STEPPED_BACK: Cure(
        "a machine's clock was set back (the message says whose): no order is taken, no tool answers; cancels go on",
        "see to its time service; it heals once the clock has caught up or agrees with the engine's",
    ),
}
