"""Tier 1 measured: recall on what must not leave, precision on what the house works with."""

from __future__ import annotations

import base64
import hashlib
import json

import pytest

from core.text._checksums import BASE58, BASE58_RIPPLE, bech32_valid
from core.text.redaction import Kind, redact_text, redact_value

RECALL_AT_LEAST = 0.97
PRECISION_AT_LEAST = 0.97

KEY = "vmPUZE6mv9SD5VNHk4HlWFsOr6aKE2zvsw0MuIgwCIPy6utIco14y7Ju91duEh8A"
SECRET = "NhqPtmdSJYdKjVHjA7PZj4Mge3R5YNiP1e3UZjInClVN65XAbvqqM6A7H5fATj0j"
HEX_KEY = hashlib.sha256(b"a private key").hexdigest()
KRAKEN_SECRET = base64.b64encode(hashlib.sha512(b"kraken").digest()).decode()


def segment(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


JWT = f"{segment({'alg': 'HS256', 'typ': 'JWT'})}.{segment({'sub': 'user-trader', 'exp': 1764000000})}.{'s' * 43}"
JWE = f"{segment({'alg': 'dir', 'enc': 'A256GCM'})}..{'i' * 16}.{'c' * 40}.{'t' * 22}"


def base58check(payload: bytes, alphabet: str = BASE58) -> str:
    """Written apart from the detector's decoder, so that each checks the other."""
    data = payload + hashlib.sha256(hashlib.sha256(payload).digest()).digest()[:4]
    number, text = int.from_bytes(data, "big"), ""
    while number:
        number, digit = divmod(number, 58)
        text = alphabet[digit] + text
    return alphabet[0] * (len(data) - len(data.lstrip(b"\0"))) + text


HASH160 = hashlib.sha256(b"wallet").digest()[:20]
BITCOIN = "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa"
BITCOIN_P2SH = base58check(b"\x05" + HASH160)
SEGWIT = "bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq"
TAPROOT = "bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqzk5jj0"
TRON = base58check(b"\x41" + HASH160)
RIPPLE = base58check(b"\x00" + HASH160, BASE58_RIPPLE)
WIF = base58check(b"\x80" + hashlib.sha256(b"wif").digest() + b"\x01")
XPRV = base58check(bytes.fromhex("0488ade4") + hashlib.sha512(b"xprv").digest() + b"\0" * 10)
ETHER = "0x52908400098527886E0F7030069857D2E4169EE7"
SOLANA = "4Nd1mBQtrMJVYVfKf2PJy9NZUZdTAsp7D4xWLs4gDB4T"
SEED_12 = "legal winner thank year wave sausage worth useful legal winner thank yellow"
SEED_24 = "letter advice cage absurd amount doctor acoustic avoid letter advice cage absurd " * 2
PEM = "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEIIGH\nAoGCCqGSM49AwEH\n-----END EC PRIVATE KEY-----"
OPENSSH = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAA\n-----END OPENSSH PRIVATE KEY-----"

# The text, what must not be left of it, and what it is.
POSITIVES: list[tuple[str, str, Kind]] = [
    (f"my key is {KEY} ok?", KEY, Kind.EXCHANGE_KEY),
    (f"secret {SECRET}", SECRET, Kind.EXCHANGE_KEY),
    (f"curl -H 'X-MBX-APIKEY: {KEY}' https://api.example.com", KEY, Kind.EXCHANGE_KEY),
    (f'{{"apiKey":"{KEY}"}}', KEY, Kind.EXCHANGE_KEY),
    (f"kraken {KRAKEN_SECRET}", KRAKEN_SECRET, Kind.EXCHANGE_KEY),
    (f"GET /order?symbol=BTCUSDT&signature={HEX_KEY}&timestamp=1", HEX_KEY, Kind.SIGNATURE),
    (f"private key {HEX_KEY}", HEX_KEY, Kind.PRIVATE_KEY),
    (f"my wallet's priv key: 0x{HEX_KEY}", HEX_KEY, Kind.PRIVATE_KEY),
    (f"eth key 0x{HEX_KEY}", HEX_KEY, Kind.PRIVATE_KEY),
    (f"ed25519 seed={HEX_KEY}", HEX_KEY, Kind.PRIVATE_KEY),
    (f"signing key {HEX_KEY.upper()}", HEX_KEY.upper(), Kind.PRIVATE_KEY),
    (f"Authorization: Bearer {JWT}", JWT, Kind.JWT),
    (f"token {JWT}", JWT, Kind.JWT),
    (f"cookie={JWE};", JWE, Kind.JWT),
    ("Authorization: Bearer 7f9c2ba4e88f827d616045507605853e", "7f9c2ba4e88f827d616045507605853e", Kind.TOKEN),
    ("authorization: Basic dXNlcjpwYXNzd29yZDE=", "dXNlcjpwYXNzd29yZDE=", Kind.TOKEN),
    ("sk-proj-abc123def456ghi789jkl012mno345", "sk-proj-abc123def456ghi789jkl012mno345", Kind.TOKEN),
    ("key ghp_abcdefghijklmnopqrstuvwxyz0123456789", "ghp_abcdefghijklmnopqrstuvwxyz0123456789", Kind.TOKEN),
    ("AKIAIOSFODNN7EXAMPLE is the id", "AKIAIOSFODNN7EXAMPLE", Kind.TOKEN),
    ("xoxb-123456789012-abcdefghijklmnop", "xoxb-123456789012-abcdefghijklmnop", Kind.TOKEN),
    ("AIzaSyA1234567890abcdefghijklmnopqrstuv", "AIzaSyA1234567890abcdefghijklmnopqrstuv", Kind.TOKEN),
    (PEM, "MHcCAQEEIIGH", Kind.PRIVATE_KEY),
    (f"the file:\n{OPENSSH}\nthanks", "b3BlbnNzaC1rZXktdjEAAAAA", Kind.PRIVATE_KEY),
    (json.dumps({"pem": PEM}), "MHcCAQEEIIGH", Kind.PRIVATE_KEY),
    (PEM[:60], "MHcCAQEEIIGH", Kind.PRIVATE_KEY),
    (WIF, WIF, Kind.PRIVATE_KEY),
    (f"restore {XPRV}", XPRV, Kind.PRIVATE_KEY),
    (SEED_12, "sausage", Kind.SEED_PHRASE),
    (f"my seed phrase is {SEED_12}", "sausage", Kind.SEED_PHRASE),
    ("backup: Zoo " + "zoo " * 10 + "wrong", "zoo zoo", Kind.SEED_PHRASE),
    (SEED_12.upper(), "SAUSAGE", Kind.SEED_PHRASE),
    (SEED_24.strip(), "acoustic", Kind.SEED_PHRASE),
    (
        "recovery words:\n" + "\n".join(f"{n}. {w}" for n, w in enumerate(SEED_12.split(), 1)),
        "sausage",
        Kind.SEED_PHRASE,
    ),
    ("mnemonic: " + ", ".join(SEED_12.split()), "sausage", Kind.SEED_PHRASE),
    (f"send to {BITCOIN}", BITCOIN, Kind.WALLET),
    (f"btc {BITCOIN_P2SH} please", BITCOIN_P2SH, Kind.WALLET),
    (SEGWIT, SEGWIT, Kind.WALLET),
    (SEGWIT.upper(), SEGWIT.upper(), Kind.WALLET),
    (f"to={TAPROOT}", TAPROOT, Kind.WALLET),
    (f"usdt on tron {TRON}", TRON, Kind.WALLET),
    (f"xrp {RIPPLE}", RIPPLE, Kind.WALLET),
    (f"withdraw to {ETHER}.", ETHER, Kind.WALLET),
    (f"sol {SOLANA}", SOLANA, Kind.WALLET),
    ("card 4111 1111 1111 1111 exp 12/27", "4111 1111 1111 1111", Kind.CARD),
    ("pay with 5555555555554444", "5555555555554444", Kind.CARD),
    ("amex 3782 822463 10005", "3782 822463 10005", Kind.CARD),
    ("visa 4012-8888-8888-1881", "4012-8888-8888-1881", Kind.CARD),
    ("IBAN GB82 WEST 1234 5698 7654 32", "GB82 WEST 1234 5698 7654 32", Kind.IBAN),
    ("to DE89370400440532013000 today", "DE89370400440532013000", Kind.IBAN),
    ("iban: fr1420041010050500013m02606", "fr1420041010050500013m02606", Kind.IBAN),
    ("mail john.smith+btc@example.co.uk", "john.smith+btc@example.co.uk", Kind.EMAIL),
    ("<a@b.io>", "a@b.io", Kind.EMAIL),
    ("?email=john%40example.com&x=1", "john%40example.com", Kind.EMAIL),
    ("write to jane (at) example (dot) com", "jane (at) example (dot) com", Kind.EMAIL),
    ("call +44 20 7946 0958", "+44 20 7946 0958", Kind.PHONE),
    ("+14155552671", "+14155552671", Kind.PHONE),
    ("+1 (415) 555-2671 after five", "+1 (415) 555-2671", Kind.PHONE),
    ("(415) 555-2671", "(415) 555-2671", Kind.PHONE),
    ("reach us on 415-555-2671", "415-555-2671", Kind.PHONE),
    ("ring 020 7946 0958", "020 7946 0958", Kind.PHONE),
    ("my number is 07700 900123", "07700 900123", Kind.PHONE),
    ("whatsapp 0049 151 23456789", "0049 151 23456789", Kind.PHONE),
    ("phone: 4155552671", "4155552671", Kind.PHONE),
    ("Berlin: +49 (0)30 901820", "901820", Kind.PHONE),
    ("ssn 078-05-1120", "078-05-1120", Kind.NATIONAL_ID),
    ("bank account 12345678", "12345678", Kind.ACCOUNT_NUMBER),
    ("account number: 0012 3456 78", "0012 3456 78", Kind.ACCOUNT_NUMBER),
    ("sort code 20-00-00", "20-00-00", Kind.ACCOUNT_NUMBER),
    ("password: hunter2", "hunter2", Kind.SECRET),
    ("pwd=Sommer2024!", "Sommer2024!", Kind.SECRET),
    ("my password is Tr0ub4dor&3", "Tr0ub4dor&3", Kind.SECRET),
    ('"client_secret": "9x8y7z6w5v4u3t2s"', "9x8y7z6w5v4u3t2s", Kind.SECRET),
    ("api key = A1b2C3d4E5f6G7h8", "A1b2C3d4E5f6G7h8", Kind.SECRET),
    ("postgresql://veloz_api:s3cr3t-pw@localhost/veloz", "s3cr3t-pw", Kind.SECRET),
    ("nats://:a1b2c3d4e5@127.0.0.1:4222", "a1b2c3d4e5", Kind.SECRET),
    ("zero\u200bwidth joh\u200bn@example.com", "n@example.com", Kind.EMAIL),
    ("full width 411111111111111\uff11", "411111111111111", Kind.CARD),
]

NEGATIVES = [
    "suggest buying 0.5 BTC with a limit near the bid",
    "what is the spread on BTCUSDT and what would it cost to buy 5 BTC now?",
    "bid 63999.99 x 1.25000, ask 64000.01 x 0.00311, spread 0.02 (0.0031 bps)",
    "order 8389765432109876543 filled 0.50000000 at 64000.01000000",
    "orderId 4539578763621486 accepted",
    "trade id 4111111111111111, maker",
    "trade_id=5555555555554444",
    "clientOrderId vz0123456789abcdef0123456789abcdef",
    "client_order_id=vz9f86d081884c7d659a2feaa0c55ad015 status=NEW",
    "run 01KAX8F0000000000000000001 trace 01KAX8F1ZZZZZZZZZZZZZZZZZZ",
    "traceparent 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    f"digest {hashlib.sha256(b'proposal').hexdigest()}",
    f"leaf hash sha256:{hashlib.sha256(b'leaf').hexdigest()}",
    f"journal entry 42 has hash {hashlib.sha256(b'journal').hexdigest()}",
    f"public key {hashlib.sha256(b'public').hexdigest()}",
    f"txid {hashlib.sha256(b'tx').hexdigest()} confirmed",
    f"tool schema {hashlib.sha256(b'schema').hexdigest()}",
    f"the signature covers {hashlib.sha256(b'x').hexdigest()[:40]}",
    "lastUpdateId 78912345678 U 78912345600 u 78912345678 pu 78912345599",
    "1764000000123 1764000000123456 1764000000123456789",
    "ts_event_ns=1764000000123456789 ts_init_ns=1764000000123999999",
    "2025-11-24T16:00:00.123456Z",
    "24/11/2025 16:00:00 UTC",
    "PnL +1,250.75 USDT (+3.21%)",
    "+12345678.90 realised",
    "+1250000000 USDT notional",
    "equity 1,234,567.89 USDT, margin 12,345.67",
    "quantity 0.00001000, step 0.00001000, tick 0.01000000",
    "1000 2000 3000 4000 5000 levels",
    "price 64 000.50 quantity 0.5",
    "levels: 64000 64001 64002 64003 64004 64005",
    "64000.01 64000.02 64000.03 64000.04",
    "max notional 50000 quote, actual 32000",
    "RISK_NOTIONAL_EXCEEDS_MAX_PER_ORDER limit 50000 actual 64000",
    "BTCUSDT ETHUSDT SOLUSDT 1000SHIBUSDT BTCUSDT_240329",
    "BTC-USD 25JUL25 70000-C",
    "buy 5@64000.5 and sell 5@64100.5",
    "@BTCUSDT mentions and #bitcoin",
    "bid@ask crossed",
    "0.5 BTC @ 63,950.50 GTC",
    "VWAP 63987.1250 TWAP 63988.9 over 3600 s",
    "funding 0.0100% in 02:13:45",
    "rsi(14) 70.25 macd(12,26,9) -3.5",
    "klines 1m 5m 15m 1h 4h 1d",
    "the password is wrong, log in again",
    "forgot password?",
    "your token has expired",
    "token price and token supply",
    "the secret of good trading is patience",
    "secret: none",
    "what is an API key?",
    "an api key is needed for live mode",
    "private keys never leave the engine",
    "which key signed the proposal?",
    "account acct-demo on paper, mode PAPER",
    "account 3 of 5",
    "sell when the call option expires 20251226",
    "margin call at 58000.00, liquidation 55250.10",
    "call spread 70000 80000 expiring 26DEC25",
    "the phone app shows 64000.01",
    "call the bottom at 60000 and 1250000 contracts",
    "depth 5 10 20 50 100 500 1000 5000",
    "win rate 54.32%, 128 trades, 7 open",
    "engine-1:42:risk.decided",
    "fill 0.20000 of 0.50000 at 63999.50 fee 0.00001 BTC",
    "sequence 123456789012 follows 123456789010",
    "show open orders fills positions balances risk limits funding rates basis spread",
    "what moved the price today and where would you place the next order",
    "the market looks very strong today with good volume and some buying pressure",
    "price moved higher after strong volume while spread stayed tight near the open",
    "sell half now then wait until price comes back under the open and buy more",
    "uuid 550e8400-e29b-41d4-a716-446655440000",
    "commit a95652f and build 20251122.1",
    "0xdeadbeef 0x1f",
    "host 127.0.0.1:8480 and 10.0.0.12",
    "http://127.0.0.1:8480/api/v1/copilot/runs?limit=50",
    "postgresql:///veloz?host=/run/veloz/s",
    "unix:/var/lib/veloz/run/engine.sock",
    "pip 1.2345/1.2347 EURUSD",
    "<EMAIL:3f2a90c1d4e7> asked about <WALLET>",
    "GB1000 tranche, DE40 index at 19250.5",
]


@pytest.mark.parametrize(("text", "secret", "kind"), POSITIVES)
def test_every_kind_has_an_example_that_is_found(text: str, secret: str, kind: Kind) -> None:
    redacted = redact_text(text)
    assert secret not in redacted.text
    assert kind in {finding.kind for finding in redacted.findings}


@pytest.mark.parametrize("text", NEGATIVES)
def test_trading_text_comes_through_unchanged(text: str) -> None:
    assert redact_text(text).text == text


def test_recall_and_precision_hold_what_we_claim() -> None:
    missed = [text for text, secret, _ in POSITIVES if secret in redact_text(text).text]
    false = [text for text in NEGATIVES if redact_text(text).findings]
    found = len(POSITIVES) - len(missed)
    recall, precision = found / len(POSITIVES), found / (found + len(false))
    print(f"tier 1: recall {recall:.3f} of {len(POSITIVES)}, precision {precision:.3f} with {len(NEGATIVES)} negatives")
    assert len(POSITIVES) >= 60
    assert len(NEGATIVES) >= 60
    assert recall >= RECALL_AT_LEAST, missed
    assert precision >= PRECISION_AT_LEAST, false


def test_a_wrong_check_digit_is_no_finding() -> None:
    for text in ("card 4111 1111 1111 1112", "IBAN GB83 WEST 1234 5698 7654 32", f"send to {BITCOIN[:-1]}b"):
        assert redact_text(text).findings == ()
    assert not bech32_valid(SEGWIT[:-1] + "p")


@pytest.mark.parametrize("key", ["order_id", "orderId", "trade_id", "ts_event_ns", "price", "digest_hex", "update_id"])
def test_an_identifier_under_its_key_is_left_alone(key: str) -> None:
    for value in ("4111111111111111", "5555555555554444", "078-05-1120", HEX_KEY):
        assert redact_value({key: value}).value == {key: value}


@pytest.mark.parametrize("key", ["order_id", "digest", "note"])
@pytest.mark.parametrize("secret", [JWT, PEM, "john@example.com", KEY])
def test_no_key_lets_a_plain_secret_through(key: str, secret: str) -> None:
    assert secret not in str(redact_value({key: secret}).value)
