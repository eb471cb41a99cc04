"""Access tokens say who and until when, and nothing else is believed."""

from __future__ import annotations

import jwt
import pytest

from api.auth.tokens import ACCESS_TOKEN_LIFETIME_S, AccessTokens
from core.types.clock import NS_PER_S, ManualClock
from core.types.codes import ReasonCode, RefusalError
from tools.contracts import Principal, Role

KEY = bytes(range(32))
START_NS = 1_790_000_000 * NS_PER_S
TRADER = Principal("user-trader", "trader", Role.TRADER, ("acct-demo",))


def _tokens(clock: ManualClock | None = None, key: bytes = KEY) -> AccessTokens:
    return AccessTokens(key, clock or ManualClock(START_NS))


def test_a_token_reads_back_as_its_principal() -> None:
    assert _tokens().read(_tokens().issue(TRADER)) == TRADER


def test_a_token_ends_at_its_time_and_not_before() -> None:
    clock = ManualClock(START_NS)
    tokens = _tokens(clock)
    token = tokens.issue(TRADER)
    clock.advance_ns(ACCESS_TOKEN_LIFETIME_S * NS_PER_S - 1)
    assert tokens.read(token) == TRADER
    clock.advance_ns(1)
    with pytest.raises(RefusalError) as caught:
        tokens.read(token)
    assert caught.value.refusal.code is ReasonCode.AUTH_TOKEN_EXPIRED


def _claims(**changes: object) -> dict[str, object]:
    claims: dict[str, object] = jwt.decode(_tokens().issue(TRADER), options={"verify_signature": False})
    return {name: value for name, value in (claims | changes).items() if value is not None}


@pytest.mark.parametrize(
    "token",
    [
        "",
        "not.a.token",
        _tokens(key=bytes(32)).issue(TRADER),
        jwt.encode(_claims(), None, "none"),
        jwt.encode(_claims(aud="another"), KEY, "HS256"),
        jwt.encode(_claims(iss="another"), KEY, "HS256"),
        jwt.encode(_claims(role="administrator"), KEY, "HS256"),
        jwt.encode(_claims(exp=None), KEY, "HS256"),
        jwt.encode(_claims(accounts=None), KEY, "HS256"),
    ],
)
def test_a_token_that_is_not_ours_is_refused(token: str) -> None:
    with pytest.raises(RefusalError) as caught:
        _tokens().read(token)
    assert caught.value.refusal.code is ReasonCode.AUTH_TOKEN_INVALID
