"""What tier 1 looks for in text: a google-re2 probe for each line, spans by `re` on hits only, a check on each span."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from enum import StrEnum

import msgspec
import re2

from core.text import _checksums as checksums

CONTEXT_CHARS = 48
SEED_WORD_COUNTS = (12, 15, 18, 21, 24)
SEED_CONTEXT_CHARS = 80


class Kind(StrEnum):
    """What was found; the word in the placeholder. Earlier kinds win where two overlap."""

    PRIVATE_KEY = "PRIVATE_KEY"
    SEED_PHRASE = "SEED_PHRASE"
    JWT = "JWT"
    TOKEN = "TOKEN"  # noqa: S105
    EXCHANGE_KEY = "EXCHANGE_KEY"
    SECRET = "SECRET"  # noqa: S105
    SIGNATURE = "SIGNATURE"
    EMAIL = "EMAIL"
    WALLET = "WALLET"
    IBAN = "IBAN"
    CARD = "CARD"
    NATIONAL_ID = "NATIONAL_ID"
    ACCOUNT_NUMBER = "ACCOUNT_NUMBER"
    PHONE = "PHONE"
    PERSON = "PERSON"
    ADDRESS = "ADDRESS"
    MASKED = "MASKED"


def words(text: str) -> frozenset[str]:
    """A set of words, written as text."""
    return frozenset(text.split())


class Span(msgspec.Struct, frozen=True):
    start: int
    end: int
    kind: Kind


Judge = Callable[[re.Match[str]], Kind | None]


class Detector(msgspec.Struct, frozen=True):
    """probe is for google-re2 and may match too much; pattern names the span by its group `v`, or is the whole."""

    probe: str
    pattern: re.Pattern[str]
    judge: Judge


def _always(kind: Kind) -> Judge:
    return lambda _match: kind


def _before(match: re.Match[str]) -> str:
    start = match.start("v") if "v" in match.re.groupindex else match.start()
    return match.string[max(0, start - CONTEXT_CHARS) : start]


def _after(match: re.Match[str], length_chars: int = 16) -> str:
    return match.string[match.end() : match.end() + length_chars]


def _digits(text: str) -> str:
    return "".join(character for character in text if character.isdigit())


_HEX_KEY_CONTEXT = re.compile(
    r"(?i)priv|secret|seed|signing.?key|wallet.?key|master.?key|\bkek\b|keystore"
    r"|(?<!public[ _])\bkey(?: is)?\W{0,4}(?:0x)?$"
)
_DIGEST_CONTEXT = re.compile(r"(?i)(digest|hash|sha-?256|checksum|txid|tx)\W{0,4}(0x)?$")
_ID_CONTEXT = re.compile(
    r"(?i)(order|trade|update|sequence|nonce|timestamp|\bts|_id|\bid|_ns|_ms)\W{0,3}(id|no|number)?\W{0,3}$"
)
_PHONE_CONTEXT = re.compile(
    r"(?i)(?<!margin )\b(?:call|phone|tel|mobile|cell|whats ?app|text me|ring|reach me|my number|fax|sms)\b"
    r"(?! (?:option|spread|auction|ratio|strike|price|at \d))[^\d\n]{0,24}$"
)
_PLAIN_NUMBER = re.compile(r"\d+\.\d+|20\d\d(?:0[1-9]|1[0-2])[0-3]\d|\d+(?: \d+)?000")
_AMOUNT_AFTER = re.compile(
    r"(?i)^\s*(%|bps|usd|eur|gbp|btc|eth|sol|xrp|bnb|contracts|lots|[a-z]{2,6}usdt?\b)|^\.\d|^,\d"
)
_NUMBER_BEFORE = re.compile(r"\d[.,]$|[$€£]\s?$")


def _judge_long_alphanumeric(match: re.Match[str]) -> Kind | None:
    """64 letters and digits: an exchange's key when cases are mixed; hex only where the words before say so."""
    text = match.group("v")
    if re.fullmatch(r"[0-9a-f]{64}|[0-9A-F]{64}", text):
        before = _before(match)
        # With 0x it has the form of an Ethereum private key; a transaction's hash has it too, and is told by its name.
        said = bool(_HEX_KEY_CONTEXT.search(before)) or match.group().startswith("0x")
        is_key = said and not _DIGEST_CONTEXT.search(before)
        return Kind.PRIVATE_KEY if is_key else None
    mixed = any(c.isupper() for c in text) and any(c.islower() for c in text) and any(c.isdigit() for c in text)
    return Kind.EXCHANGE_KEY if mixed else None


def _judge_base58(match: re.Match[str]) -> Kind | None:
    text = match.group("v")
    payload = checksums.base58check_payload(text)
    if payload is not None:
        is_private = text.startswith(("xprv", "yprv", "zprv", "tprv")) or (len(payload) in {33, 34} and len(text) > 49)
        return Kind.PRIVATE_KEY if is_private else Kind.WALLET
    if 43 <= len(text) <= 44:  # a bare Ed25519 public key: Solana's address, without a checksum
        decoded = checksums.decode_base58(text)
        mixed = any(c.isupper() for c in text) and any(c.islower() for c in text) and any(c.isdigit() for c in text)
        return Kind.WALLET if decoded is not None and len(decoded) == 32 and mixed else None
    return None


def _judge_card(match: re.Match[str]) -> Kind | None:
    digits = _digits(match.group("v"))
    plausible = checksums.luhn_valid(digits) and checksums.card_issuer_known(digits)
    if not plausible or _ID_CONTEXT.search(_before(match)) or _AMOUNT_AFTER.search(_after(match)):
        return None
    return Kind.CARD


def _judge_iban(match: re.Match[str]) -> Kind | None:
    return Kind.IBAN if checksums.iban_valid(re.sub(r"[ -]", "", match.group("v")).upper()) else None


def _judge_phone(match: re.Match[str]) -> Kind | None:
    text = match.group("v")
    if not 8 <= len(_digits(text)) <= 15:
        return None
    if _AMOUNT_AFTER.search(_after(match)) or _NUMBER_BEFORE.search(_before(match)):
        return None
    return Kind.PHONE


def _judge_phone_in_context(match: re.Match[str]) -> Kind | None:
    text = match.group("v")
    if not 7 <= len(_digits(text)) <= 15 or _AMOUNT_AFTER.search(_after(match)) or _PLAIN_NUMBER.fullmatch(text):
        return None
    return Kind.PHONE if _PHONE_CONTEXT.search(_before(match)) else None


def _judge_said_secret(match: re.Match[str]) -> Kind | None:
    """`password is hunter2`, `api key: ...`: a word that follows by sense alone must look like a secret."""
    value = match.group("v")
    if value.startswith("<"):
        return None
    odd = (
        any(c.isdigit() for c in value)
        or not value.isalnum()
        or (value.lower() != value and value[1:] != value[1:].lower())
    )
    is_password = any(part in match.group("k").lower() for part in ("pass", "pwd"))
    if is_password and match.group("s").strip() in {"=", ":"}:
        return Kind.SECRET
    if not is_password and len(value) < 12:
        return None
    return Kind.SECRET if odd else None


def _judge_bech32(match: re.Match[str]) -> Kind | None:
    return Kind.WALLET if checksums.bech32_valid(match.group("v")) else None


def _compile(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)


_EDGE_BEFORE, _EDGE_AFTER = r"(?<![A-Za-z0-9])", r"(?![A-Za-z0-9])"
_KEYWORDS = (
    r"(?:api|access|secret|private|signing|encryption|webhook|trading)[_ -]?(?:key|secret|token)(?:[_ -]?id)?"
    r"|secret|password|passwd|passphrase|pass ?code|pwd|client[_ -]?secret|x-mbx-apikey|authorization|mnemonic"
)

DETECTORS: tuple[Detector, ...] = (
    Detector(
        r"eyJ[A-Za-z0-9_-]{6,}\.[A-Za-z0-9_-]*\.",
        _compile(
            r"(?<![A-Za-z0-9_-])(?P<v>eyJ[A-Za-z0-9_-]{6,4096}\.[A-Za-z0-9_-]{0,32768}(?:\.[A-Za-z0-9_-]{0,8192}){1,3})"
        ),
        _always(Kind.JWT),
    ),
    Detector(
        r"(?i)\b(?:bearer|basic|apikey)\s+[A-Za-z0-9._~+/=-]{12,}",
        _compile(r"(?i)\b(?:bearer|basic|apikey)\s+(?P<v>(?=[^\s]*[0-9])[A-Za-z0-9._~+/=-]{12,4096})"),
        _always(Kind.TOKEN),
    ),
    Detector(
        r"sk-|[sr]k_(?:live|test)_|gh[pousr]_|github_pat_|xox[abprs]-|AKIA|ASIA|AIza|hf_|glpat-|npm_|dop_v1_|SG\.",
        _compile(
            _EDGE_BEFORE + r"(?P<v>sk-[A-Za-z0-9_-]{20,256}|[sr]k_(?:live|test)_[A-Za-z0-9]{16,128}"
            r"|gh[pousr]_[A-Za-z0-9]{30,128}|github_pat_[A-Za-z0-9_]{40,128}|xox[abprs]-[A-Za-z0-9-]{16,256}"
            r"|(?:AKIA|ASIA)[0-9A-Z]{16}|AIza[0-9A-Za-z_-]{35}|hf_[A-Za-z0-9]{30,64}|glpat-[A-Za-z0-9_-]{20,64}"
            r"|npm_[A-Za-z0-9]{36}|dop_v1_[a-f0-9]{64}|SG\.[A-Za-z0-9_-]{16,64}\.[A-Za-z0-9_-]{16,64})"
        ),
        _always(Kind.TOKEN),
    ),
    Detector(
        r"[A-Za-z0-9]{64}",
        _compile(r"(?<![A-Za-z0-9_])(?:0x)?(?P<v>[A-Za-z0-9]{64})(?![A-Za-z0-9_])"),
        _judge_long_alphanumeric,
    ),
    Detector(
        r"[A-Za-z0-9+/]{86}==",
        _compile(r"(?<![A-Za-z0-9+/])(?P<v>[A-Za-z0-9+/]{86}==)"),
        _always(Kind.EXCHANGE_KEY),
    ),
    Detector(
        r"(?i)signature[\"']?\s?[=:]\s?[\"']?[0-9a-f]{64}",
        _compile(r"(?i)(?<![A-Za-z0-9])signature[\"']?\s?[=:]\s?[\"']?(?P<v>[0-9a-f]{64})(?![0-9a-f])"),
        _always(Kind.SIGNATURE),
    ),
    Detector(
        r"://[^\s/@:]*:[^\s/@]+@",
        _compile(r"://[^\s/@:]{0,128}:(?P<v>[^\s/@<]{1,256})@"),
        _always(Kind.SECRET),
    ),
    Detector(
        r"(?i)(?:" + _KEYWORDS + r")",
        _compile(
            r"(?i)(?<![A-Za-z])(?P<k>" + _KEYWORDS + r")[\"']?(?P<s>\s{0,3}(?:=>?|:|\bis\b|\bare\b|\s)\s{0,3})"
            r"(?:bearer |basic )?[\"']?(?P<v>[^\s\"',;&<>]{4,512})"
        ),
        _judge_said_secret,
    ),
    Detector(
        r"(?:@|%40|(?i:\(at\)|\[at\]))",
        _compile(
            r"(?i)(?<![A-Za-z0-9._%+-])(?P<v>[A-Za-z0-9._+'-]{1,64}(?:@|%40|\s?[(\[]at[)\]]\s?)(?:[A-Za-z0-9-]{1,63}"
            r"(?:\.|\s?[(\[]dot[)\]]\s?)){1,8}[A-Za-z]{2,24})(?![A-Za-z0-9])"
        ),
        _always(Kind.EMAIL),
    ),
    Detector(
        r"0x[0-9a-fA-F]{40}",
        _compile(_EDGE_BEFORE + r"(?P<v>0x[0-9a-fA-F]{40})" + _EDGE_AFTER),
        _always(Kind.WALLET),
    ),
    Detector(
        r"(?i)(?:bc|tb|ltc|bcrt|addr|cosmos|osmo)1[02-9ac-hj-np-z]{6,}",
        _compile(
            r"(?i)" + _EDGE_BEFORE + r"(?P<v>(?:bc|tb|ltc|bcrt|addr|cosmos|osmo)1[02-9ac-hj-np-z]{6,110})" + _EDGE_AFTER
        ),
        _judge_bech32,
    ),
    Detector(
        r"[1-9A-HJ-NP-Za-km-z]{25,}",
        _compile(_EDGE_BEFORE + r"(?P<v>[1-9A-HJ-NP-Za-km-z]{25,120})" + _EDGE_AFTER),
        _judge_base58,
    ),
    Detector(
        r"(?i)\b[A-Z]{2}[0-9]{2}(?:[ -]?[A-Z0-9]){11,30}",
        _compile(
            r"(?i)"
            + _EDGE_BEFORE
            + r"(?P<v>[A-Z]{2}[0-9]{2}(?:[ -]?[A-Z0-9]{4}){2,7}(?:[ -]?[A-Z0-9]{1,3})?)"
            + _EDGE_AFTER
        ),
        _judge_iban,
    ),
    Detector(
        r"[0-9](?:[ -]?[0-9]){12,18}",
        _compile(
            r"(?<![\d.,_-])(?<!\d )(?P<v>\d{13,19}|\d{4}(?:[ -]\d{4}){3}(?:[ -]\d{3})?|\d{4}[ -]\d{6}[ -]\d{4,5})"
            r"(?![\d_-])(?!\.\d)"
        ),
        _judge_card,
    ),
    Detector(
        r"\b[0-9]{3}-[0-9]{2}-[0-9]{4}\b",
        _compile(r"(?<![\d.-])(?P<v>(?!000|666|9)\d{3}-(?!00)\d{2}-(?!0000)\d{4})(?![\d.-])"),
        _always(Kind.NATIONAL_ID),
    ),
    Detector(
        r"(?i)(?:account|acct|a/c|routing|sort code|iban)",
        _compile(
            r"(?i)\b(?:bank account|account(?: ?(?:number|no\.?|#))|acct\.? ?(?:number|no\.?|#)|a/c|routing(?: number)?"
            r"|sort code)\W{0,3}(?:is\s)?(?P<v>\d(?:[ -]?\d){5,16})(?!\d)(?!\.\d)"
        ),
        _always(Kind.ACCOUNT_NUMBER),
    ),
    Detector(
        r"(?:\+|\b00)[1-9]",
        _compile(
            r"(?<![\w.])(?P<v>(?:\+|00)[1-9]\d{0,3}(?:[ -]?\(\d{1,4}\)(?:\d{1,5})?)?(?:[ -]\(?\d{1,8}\)?){1,6}"
            r"|(?:\+|00)[1-9]\d{9,14}|\+[1-9]\d{0,2}(?:\.\d{2,4}){2,5})(?![\w-])"
        ),
        _judge_phone,
    ),
    Detector(
        r"\([0-9]{2,5}\)\s?[0-9]|\b[0-9]{3}[-.][0-9]{3}[-.][0-9]{4}\b|\b0[0-9]{2,4}[ -][0-9]{3}",
        _compile(
            r"(?<![\w.+-])(?P<v>\(\d{3}\)\s?\d{3}[ -.]\d{4}|\(0\d{1,4}\)\s?\d{3,4}[ -]?\d{3,4}|\d{3}([-.])\d{3}\2\d{4}"
            r"|0\d{2,4}[ -]\d{3,4}[ -]?\d{3,4})(?![\w-])"
        ),
        _judge_phone,
    ),
    Detector(
        r"(?i)\b(?:call|phone|tel|mobile|cell|whats ?app|text me|ring|reach me|my number|fax|sms)\b",
        _compile(r"(?<![\w.+-])(?P<v>\+?\(?\d(?:[ ().-]{0,2}\d){6,14})(?![\w%]|\.\d)"),
        _judge_phone_in_context,
    ),
)


def _build_probe() -> re2.Set:
    options = re2.Options()
    options.log_errors = False
    probe = re2.Set.SearchSet(options)
    for detector in DETECTORS:
        probe.Add(detector.probe)
    probe.Compile()
    return probe


_PROBE = _build_probe()


def find_spans(text: str) -> Iterator[Span]:
    """All spans in text, unordered and perhaps overlapping."""
    offset = 0
    for line in text.splitlines(keepends=True):
        for index in _PROBE.Match(line) or ():
            detector = DETECTORS[index]
            for match in detector.pattern.finditer(line):
                kind = detector.judge(match)
                if kind is not None:
                    start, end = match.span("v")
                    yield Span(offset + start, offset + end, kind)
        offset += len(line)
    yield from _find_private_key_blocks(text)
    yield from _find_seed_phrases(text)


_KEY_BLOCK = re.compile(
    r"-----BEGIN (?:[A-Z0-9]{1,12} ){0,4}PRIVATE KEY(?: BLOCK)?-----.{0,16384}?"
    r"(?:-----END (?:[A-Z0-9]{1,12} ){0,4}PRIVATE KEY(?: BLOCK)?-----|\Z)",
    re.DOTALL,
)


def _find_private_key_blocks(text: str) -> Iterator[Span]:
    if "PRIVATE KEY" not in text:
        return
    end = 0
    for match in _KEY_BLOCK.finditer(text):
        end = match.end()
        yield Span(match.start(), end, Kind.PRIVATE_KEY)
    opening = re.compile(r"-----BEGIN (?:[A-Z0-9]{1,12} ){0,4}PRIVATE KEY").search(text, end)
    if opening:  # longer than any key: nothing after the opening is let through
        yield Span(opening.start(), len(text), Kind.PRIVATE_KEY)


_SEED_WORD = re.compile(r"[A-Za-z]+")
_SEED_GAP = re.compile(r"(?:[\s,;|\"']|\\n){1,8}(?:\d{1,2}[.):]?[\s]{0,2})?")
_SEED_CONTEXT = re.compile(r"(?i)seed|mnemonic|recovery|backup|bip-?39|wallet|phrase|secret|words")
# Frequent words of three to eight letters that are on no BIP-39 English list.
_NOT_SEED_WORDS = words(
    "the and for are was were with from has had have its not but our his her their been would could should than "
    "them these those which does did how why who some more most best bid cost any get got let per via please show "
    "tell give buying selling because after against"
)
_NOT_SEED_ENDINGS = ("ing", "ed", "ly", "tion")


def _find_seed_phrases(text: str) -> Iterator[Span]:
    """Runs of short plain words. A word list isn't needed: with words like `seed phrase` before it any such run
    counts; without, it must have a seed phrase's length and none of the words and endings that sentences are made of.
    """
    run: list[re.Match[str]] = []
    for word in _SEED_WORD.finditer(text):
        fits = 3 <= len(word.group()) <= 8
        joined = bool(run) and _SEED_GAP.fullmatch(text, run[-1].end(), word.start()) is not None
        if run and not (fits and joined):
            yield from _judge_seed_run(text, run)
            run = []
        if fits:
            run.append(word)
    yield from _judge_seed_run(text, run)


def _judge_seed_run(text: str, run: list[re.Match[str]]) -> Iterator[Span]:
    if len(run) < SEED_WORD_COUNTS[0]:
        return
    start = run[0].start()
    found = [word.group().lower() for word in run]
    one_case = len({word.group().islower() for word in run}) == 1
    plain = sum(word in _NOT_SEED_WORDS for word in found)
    inflected = sum(
        (word.endswith("s") and not word.endswith(("ss", "us"))) or word.endswith(_NOT_SEED_ENDINGS) for word in found
    )
    if one_case and plain == 0 and len(run) in SEED_WORD_COUNTS and inflected <= len(run) // 6:
        yield Span(start, run[-1].end(), Kind.SEED_PHRASE)
        return
    # The words that introduce a phrase may be part of the run: look for the longest clean tail after them.
    introduced = list(_SEED_CONTEXT.finditer(text, max(0, start - SEED_CONTEXT_CHARS), run[-1].end()))
    if not introduced:
        return
    for count in reversed(SEED_WORD_COUNTS):
        if count <= len(run) and not any(word in _NOT_SEED_WORDS for word in found[-count:]):
            yield Span(run[-count].start(), run[-1].end(), Kind.SEED_PHRASE)
            return
