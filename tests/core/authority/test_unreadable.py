"""Bytes that are no JSON, or JSON without end: each reader of signed documents refuses them with its
code, and none breaks."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from core.authority.documents import parse_document
from core.authority.enrolment import parse_enrolment
from core.authority.proposal import parse_proposal, proposal_digest
from core.authority.roster import RosterError, parse_signed_roster
from core.authority.webauthn import verify_assertion
from core.runtime.tickets import OrderTicket, parse_ticket
from core.types.authority import Mandate
from core.types.codes import ReasonCode as C
from core.types.codes import Refusal, RefusalError
from core.types.events import RosterEntry

PASSKEY = RosterEntry("key", "user", "", (), paper_only=True, kind="webauthn")
BYTES = {
    "no UTF-8": b'{"schema":"\xff"}',
    "brackets without end": b'{"a":' + b"[" * 3_500,
    "brackets that end": b'{"a":' + b"[" * 3_500 + b"]" * 3_500 + b"}",
    "objects without end": b'{"a":' * 2_500,
    "half of a pair": b'{"schema":"\\ud800"}',
    "a number without end": b'{"schema":' + b"9" * 5_000 + b"}",
    "no number": b'{"schema":NaN}',
    "nothing": b"",
}


def code_of(read: Callable[[bytes], object], content: bytes) -> object:
    try:
        answer = read(content)
    except RefusalError as error:
        return error.refusal.code
    except RosterError:
        return RosterError
    return answer.code if isinstance(answer, Refusal) else answer


READERS: dict[str, tuple[Callable[[bytes], object], object]] = {
    "a proposal": (parse_proposal, C.AUTHORITY_PROPOSAL_MALFORMED),
    "a document": (lambda content: parse_document(content, Mandate, "x"), C.AUTHORITY_DOCUMENT_MALFORMED),
    "a ticket": (lambda content: parse_ticket(content, OrderTicket), C.AUTHORITY_DOCUMENT_MALFORMED),
    "a roster": (lambda content: parse_signed_roster(content, "roster.json", "00" * 32), RosterError),
    "an enrolment": (lambda content: parse_enrolment(content, "ada.json"), RosterError),
    "a passkey's assertion": (lambda content: verify_assertion(PASSKEY, "00" * 32, content), False),
    "what a passkey's browser said": (
        lambda content: verify_assertion(
            PASSKEY,
            "00" * 32,
            json.dumps({"authenticator_data": "", "client_data_json": content[:2_500].hex(), "signature": ""}).encode(),
        ),
        False,
    ),
}


@pytest.mark.parametrize("content", BYTES)
@pytest.mark.parametrize("reader", READERS)
def test_what_cant_be_read_is_refused_as_that(reader: str, content: str) -> None:
    read, told = READERS[reader]
    assert code_of(read, BYTES[content]) == told


@pytest.mark.parametrize("content", BYTES)
def test_whatever_it_is_it_has_a_digest_to_be_told_by(content: str) -> None:
    assert len(proposal_digest(BYTES[content])) == 64
