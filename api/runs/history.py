"""What a client says was said before. Of the assistant's part only what this service wrote in that thread counts."""

from __future__ import annotations

import re
from collections.abc import Iterable

from core.text.redaction import Redactor
from tools.untrusted import neutralise

_PARAGRAPHS = re.compile(r"\n\s*\n")


def foreign(messages: list[dict[str, str]], answers: Iterable[str], redactor: Redactor) -> dict[int, str]:
    """By their place, the assistant's messages that aren't answers of this service, neutralised and redacted.

    answers are those of the thread, as they are stored. A message is ours when each of its paragraphs stands in one
    of them: a client shows an answer's parts as messages of their own. What an answer of another thread says is
    foreign as well, because what that thread had been shown isn't held against this one.
    """
    known = {paragraph for answer in answers for paragraph in _paragraphs(answer)}
    found = {}
    for place, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        text = redactor.text(message["content"]).text
        if not known.issuperset(_paragraphs(text)):
            found[place] = neutralise(text)
    return found


def _paragraphs(text: str) -> set[str]:
    return {folded for paragraph in _PARAGRAPHS.split(text) if (folded := " ".join(paragraph.split()))}
