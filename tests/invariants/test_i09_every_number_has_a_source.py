"""I9: every number in an answer traces to a cell of a stored tool result, or is marked as one that doesn't."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from core.text.figures import UNSOURCED_MARK, resolve
from tests.agent.test_copilot import Asked, ask, copilot_for
from tests.api.house import serving
from tests.tools.doubles import House

INVENTED = "61234.56"
ROUNDED = "60000.1"
QUESTIONS = (
    "what is the spread on BTCUSDT and what would it cost to buy 5 BTC now?",
    "show me the order book for BTC",
    "what are my positions and my risk limits",
    "how did bitcoin move over the last 3 minutes",
    "suggest buying 0.5 BTC with a limit near the bid",
)


class Liar:
    """A model that looks at the ticker, then says one number of it, one that it made up, and one that it rounded."""

    def __init__(self) -> None:
        self._turns = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        self._turns += 1
        if self._turns == 1:
            call = {"index": 0, "id": "c", "type": "function"}
            call["function"] = {"name": "get_ticker", "arguments": '{"symbol": "BTCUSDT"}'}
            deltas: list[dict[str, Any]] = [{"tool_calls": [call]}]
        else:
            text = f"The bid is 59999.99 USDT, fair value is {INVENTED} USDT and the ask is about {ROUNDED} USDT."
            deltas = [{"content": text[start : start + 7]} for start in range(0, len(text), 7)]
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        for delta in deltas:
            choice = {"index": 0, "delta": delta, "finish_reason": None}
            chunk = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "liar", "choices": [choice]}
            body = f"data: {json.dumps(chunk)}\n\n".encode()
            await send({"type": "http.response.body", "body": body, "more_body": True})
        await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})


def stored_cell(house: House, call_id: str, path: str) -> Any:
    """What the result store holds there: the place where compliance will look."""
    return resolve(msgspec.json.decode(house.results.stored[call_id].canonical), path)


@pytest.mark.parametrize("question", QUESTIONS)
async def test_every_figure_of_an_answer_is_a_cell_of_a_stored_result(question: str) -> None:
    house = House()
    asked = await ask(copilot_for(house.gateway), question)
    assert asked.outcome.figures
    for figure in asked.outcome.figures:
        assert figure.call_id is not None, figure
        assert figure.path is not None
        assert str(stored_cell(house, figure.call_id, figure.path)) == figure.value
        assert figure.text in asked.outcome.answer
    assert UNSOURCED_MARK not in asked.outcome.answer


async def test_a_number_that_the_model_made_up_or_rounded_is_marked_in_stream_and_answer() -> None:
    house = House()
    async with serving(Liar()) as url:
        copilot = copilot_for(house.gateway, provider_base_url=f"{url}/v1", provider_model="liar")
        asked: Asked = await ask(copilot, "what is BTC worth?")
        await copilot.close()
    expected = (
        f"The bid is 59999.99 USDT, fair value is {INVENTED}{UNSOURCED_MARK} USDT "
        f"and the ask is about {ROUNDED}{UNSOURCED_MARK} USDT."
    )
    assert asked.outcome.answer == asked.text == expected
    sourced, *unsourced = asked.outcome.figures
    assert sourced.call_id is not None
    assert sourced.path is not None
    assert stored_cell(house, sourced.call_id, sourced.path) == "59999.99"
    assert [(figure.text, figure.call_id, figure.path) for figure in unsourced] == [
        (INVENTED, None, None),
        (ROUNDED, None, None),
    ]
