"""How well the planner reads questions it wasn't trained on, and that it never mistakes one for an order."""

from __future__ import annotations

import tomllib
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from agent.planner.changes import Request
from agent.planner.classifier import PHRASINGS_FILE, Intent
from agent.planner.reading import Clause, Reader, trained_reader
from agent.planner.slots import mask

CASES = tomllib.loads(Path(__file__).with_name("paraphrases.toml").read_text())
ACCURACY_MIN = 0.9


@pytest.fixture(scope="module")
def reader() -> Reader:
    return trained_reader()


def misread(case: dict[str, Any], clauses: list[Clause]) -> list[str]:
    """What is wrong with the reading of one case; empty when it is right."""
    intents = [clause.intent.value if clause.intent else None for clause in clauses]
    if intents != case["intents"]:
        return [f"intents {intents}"]
    slots = next(c for c in clauses if c.intent == case["intents"][0]).slots
    rule = slots.price_rule
    read = {
        "symbol": slots.symbols[0] if slots.symbols else None,
        "side": slots.side,
        "quantity": slots.quantity,
        "notional": slots.notional,
        "price": slots.price,
        "rule": rule.reference if rule else None,
        "offset": rule.offset if rule else None,
        "market": slots.market,
        "valid_for_s": slots.valid_for_s,
        "count": slots.count,
        "span_min": slots.span_min,
        "interval": slots.interval,
        "indicators": list(slots.indicators),
    }
    wrong = []
    for name, value in read.items():
        wanted = case.get(name)
        if name in {"quantity", "notional", "price", "offset"} and wanted is not None:
            wanted = Decimal(wanted)
        if name in case and value != wanted:
            wrong.append(f"{name} is {value}, not {wanted}")
    return wrong


def test_paraphrases_are_read_with_their_slots(reader: Reader) -> None:
    wrong = {case["ask"]: problems for case in CASES["case"] if (problems := misread(case, reader.read(case["ask"])))}
    accuracy = 1 - len(wrong) / len(CASES["case"])
    assert accuracy >= ACCURACY_MIN, f"accuracy {accuracy:.3f} of {len(CASES['case'])}: {wrong}"


def test_only_a_plain_request_is_read_as_an_order(reader: Reader) -> None:
    """Wrong action: none at all, whatever the accuracy."""
    for case in CASES["case"]:
        orders = [c for c in reader.read(case["ask"]) if c.intent is Intent.SUGGEST_ORDER and not c.conditional]
        assert bool(orders) is case.get("order", False), case["ask"]


@pytest.mark.parametrize("ask", CASES["never_an_order"])
def test_speaking_of_buying_is_not_asking_for_an_order(reader: Reader, ask: str) -> None:
    trades = {Intent.SUGGEST_ORDER, Request.BRACKET, Request.CLOSE, Request.HEDGE}
    asked = [c.text for c in reader.read(ask) if c.intent in trades and not c.conditional]
    assert asked == []


def test_the_measured_paraphrases_are_not_training_phrases() -> None:
    trained = {mask(p) for phrases in tomllib.loads(PHRASINGS_FILE.read_text()).values() for p in phrases}
    exact = {p.lower() for phrases in tomllib.loads(PHRASINGS_FILE.read_text()).values() for p in phrases}
    overlap = [case["ask"] for case in CASES["case"] if case["ask"].lower() in exact]
    # Three of the product's own headline questions are both: they have to work.
    assert len(overlap) <= 3, overlap
    assert len(trained) > 300


@pytest.mark.parametrize(
    ("ask", "interval"),
    [
        ("RSI(14) on 7m of BTC", "7m"),
        ("bollinger bands for ETH on 1s", "1s"),
        ("show me 45m candles of BTC", "45m"),
        ("RSI(14) on the 5m of BTC", "5m"),
        ("SMA(20) of BTC", None),
    ],
)
def test_an_interval_that_no_venue_has_is_not_taken_for_another(ask: str, interval: str | None, reader: Reader) -> None:
    (clause,) = reader.read(ask)
    assert clause.slots.interval == interval


def test_every_intent_has_at_least_twenty_phrasings() -> None:
    phrasings = tomllib.loads(PHRASINGS_FILE.read_text())
    assert set(phrasings) == {intent.value for intent in Intent}
    assert all(len(set(texts)) >= 20 for texts in phrasings.values())


@pytest.mark.parametrize(
    ("earlier", "ask", "intent", "symbol"),
    [
        ("what is the spread on BTCUSDT?", "and ETH?", Intent.TICKER, "ETHUSDT"),
        ("show me the order book for BTC", "what about sol", Intent.ORDER_BOOK, "SOLUSDT"),
        ("what is the price of bitcoin", "how deep is the book", Intent.ORDER_BOOK, "BTCUSDT"),
    ],
)
def test_a_follow_up_takes_what_it_leaves_out_from_the_conversation(
    reader: Reader, earlier: str, ask: str, intent: Intent, symbol: str
) -> None:
    (clause,) = reader.read(ask, (earlier,))
    assert (clause.intent, clause.slots.symbols) == (intent, (symbol,))


def test_an_order_is_never_repeated_or_completed_from_the_conversation(reader: Reader) -> None:
    (again,) = reader.read("and ETH?", ("buy 1 BTC now",))
    assert again.intent is not Intent.SUGGEST_ORDER
    (order,) = reader.read("buy 2 at market", ("what is the price of BTC",))
    assert order.slots.symbols == ()
