"""Tier 2: people's names go, trading questions stay, and nothing passes unread."""

from __future__ import annotations

import asyncio
import socket
import threading

import pytest

from audit import redact
from audit.redact import PROMPT_LIMIT_CHARS, mask_unknown_words, redact_prompt, warm
from core.text.redaction import Redactor

RECALL_AT_LEAST = 0.93

TRADING_QUESTIONS = [
    "suggest buying 0.5 BTC with a limit near the bid",
    "what is the spread on BTCUSDT and what would it cost to buy 5 BTC now?",
    "What is the price of BTC?",
    "Show me the order book for ETHUSDT, 20 levels deep",
    "Show Solana klines, 5m, last 50",
    "how is Ripple doing vs Cardano today?",
    "Is Dogecoin near its high?",
    "What would it cost to sell 12.5 ETH at market?",
    "suggest selling 2 SOL at 182.35, post only",
    "Which positions do I hold and what is my unrealised PnL?",
    "What are my open orders on Binance?",
    "Is the kill switch active?",
    "What is the max notional per order?",
    "Did RSI cross 70 on the 1h BTCUSDT chart?",
    "Where is the lower Bollinger band on ETH?",
    "What Fibonacci level did Avalanche bounce from?",
    "compare the spread on Binance and Kraken",
    "Buy 0.25 BTC limit 63,950.50 GTC reduce-only",
    "what's the slippage for 100k USDT of SOL?",
    "Explain my last trade review on ETHUSDT",
    "How volatile was Bitcoin during the London session?",
    "What is the funding rate of the BTC perp?",
    "Cancel nothing, just tell me how stale the book is",
    "What does an Ichimoku cloud say about Litecoin on the daily?",
    "suggest a buy of 10 LINK 20 bps below mid, expires in 5 minutes",
    "why was suggestion 01KAX8F0000000000000000001 refused with RISK_PRICE_OUTSIDE_COLLAR?",
    "what is my Sharpe ratio this month",
    "Will the Fed move Bitcoin in December?",
    "Mark price vs last price on SOLUSDT?",
    "May I exceed 50000 USDT per order?",
]

# The text, and what must not be left of it.
PEOPLE = [
    ("I'm John Smith, call me at +44 20 7946 0958", ["John", "Smith", "7946"]),
    ("Please ask Maria Gonzalez whether ETH is a buy", ["Maria", "Gonzalez"]),
    ("my colleague Wei Zhang bought DOGE", ["Wei", "Zhang"]),
    ("did Sarah Connor approve the SOL order?", ["Sarah", "Connor"]),
    ("Alice wants to sell 3 ETH", ["Alice"]),
    ("Tell Robert Müller his order filled", ["Robert", "Müller"]),
    ("my name is mark twain", ["mark", "twain"]),
    ("This is Priya Raghunathan from the desk", ["Priya", "Raghunathan"]),
    ("Buy 1 BTC for our client David O'Connor", ["David", "Connor"]),
    ("Fatima Al-Sayed asked about the spread", ["Fatima", "Sayed"]),
    ("Regards, Jonathan Price-Williams", ["Jonathan", "Williams"]),
    ("Send the report to james.bond@example.com and Emily Clark", ["james.bond", "Emily", "Clark"]),
    ("Dr. Henrik Larsen holds 20 ETH", ["Henrik", "Larsen"]),
    ("Was the order of Olga Petrova rejected?", ["Olga", "Petrova"]),
    ("JOHN SMITH approved it", ["JOHN", "SMITH"]),
    ("ask Michael Jordan about his BTC", ["Michael", "Jordan"]),
    ("My boss Angela Merkel says buy", ["Angela", "Merkel"]),
    ("post the hardware wallet to 12 Baker Street, NW1 6XE", ["Baker", "NW1"]),
    ("hi, I am Lucas Oliveira and I want 0.1 BTC", ["Lucas", "Oliveira"]),
    ("Yuki Tanaka's position in SOL?", ["Yuki", "Tanaka"]),
    ("transfer from Pierre Dubois's account", ["Pierre", "Dubois"]),
    ("Thomas said the ask looks thin", ["Thomas"]),
    ("what did Kowalski pay for his ETH?", ["Kowalski"]),
    ("Mr Anderson called about the fill", ["Anderson"]),
]


@pytest.fixture(scope="module", autouse=True)
def warmed() -> None:
    warm()


@pytest.mark.parametrize("question", TRADING_QUESTIONS)
async def test_a_trading_question_comes_through_unchanged(question: str) -> None:
    redacted = await redact_prompt(question)
    assert redacted.text == question
    assert redacted.findings == ()


async def test_names_are_masked_with_the_recall_that_we_claim() -> None:
    wanted, missed = 0, []
    for text, secrets in PEOPLE:
        redacted = (await redact_prompt(text)).text
        wanted += len(secrets)
        missed += [(secret, redacted) for secret in secrets if secret in redacted]
    recall = 1 - len(missed) / wanted
    print(f"tier 2 recall {recall:.3f} on {wanted} name parts; missed {missed}")
    assert recall >= RECALL_AT_LEAST


async def test_one_person_has_one_pseudonym_in_a_scope() -> None:
    redactor = Redactor(b"scope")
    first = (await redact_prompt("Was the order of Olga Petrova rejected?", redactor)).text
    second = (await redact_prompt("Tell Olga Petrova to sell", redactor)).text
    assert first.split("of ")[1].split(" rejected")[0] == second.removeprefix("Tell ").removesuffix(" to sell")


async def test_what_is_redacted_stays_as_it_is() -> None:
    redactor = Redactor(b"scope")
    once = await redact_prompt("I'm John Smith, write to john@example.com", redactor)
    assert (await redact_prompt(once.text, redactor)).text == once.text


async def test_a_long_prompt_is_cut_and_says_so() -> None:
    redacted = await redact_prompt("buy BTC " * PROMPT_LIMIT_CHARS)
    assert redacted.cut
    assert len(redacted.text) <= PROMPT_LIMIT_CHARS


async def test_a_model_that_is_slow_masks_and_never_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()
    monkeypatch.setattr(redact, "ANALYSIS_TIMEOUT_S", 0.05)
    monkeypatch.setattr(redact, "_find_names", lambda *_: release.wait(100))
    redacted = await asyncio.wait_for(redact_prompt("I'm John Smith, buy 0.5 BTC near the bid"), 60)
    release.set()
    assert redacted.text == "I'm <MASKED> <MASKED>, buy 0.5 BTC near the bid"


async def test_a_model_that_fails_masks_and_never_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no model")

    monkeypatch.setattr(redact, "_find_names", fail)
    assert "Smith" not in (await redact_prompt("I'm John Smith")).text


@pytest.mark.parametrize("question", TRADING_QUESTIONS)
def test_masking_by_vocabulary_keeps_most_questions_readable(question: str) -> None:
    spans = mask_unknown_words(question)
    assert len(spans) <= len(question.split()) // 4


async def test_it_opens_no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **_: object) -> None:
        raise AssertionError(f"a connection to {arguments}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(redact, "_loaded", None)
    await asyncio.to_thread(warm)
    assert "Smith" not in (await redact_prompt("I'm John Smith")).text
