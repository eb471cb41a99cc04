"""Which intent a clause has: TF-IDF over words and characters with logistic regression, trained at start from our own
phrasings. A guess without a clear lead is no guess: the planner then asks back."""

from __future__ import annotations

import re
import tomllib
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from agent.planner.slots import mask

PHRASINGS_FILE = Path(__file__).with_name("phrasings.toml")
PROBABILITY_MIN = 0.20
LEAD_MIN = 0.05
REGULARISATION_C = 20.0


class Intent(StrEnum):
    TICKER = "ticker"
    ORDER_BOOK = "order_book"
    KLINES = "klines"
    INDICATORS = "indicators"
    FEED_HEALTH = "feed_health"
    POSITIONS = "positions"
    OPEN_ORDERS = "open_orders"
    RISK_STATE = "risk_state"
    ESTIMATE_EXECUTION = "estimate_execution"
    SUGGEST_ORDER = "suggest_order"
    INSTRUMENTS = "instruments"
    REVIEWS = "reviews"
    SUGGESTION_STATUS = "suggestion_status"
    TRADES = "trades"
    BALANCES = "balances"
    EXPOSURE = "exposure"
    WHAT_IF = "what_if"
    LIMIT_USE = "limit_use"
    REJECTION = "rejection"
    FILLS = "fills"
    PNL = "pnl"
    FEES = "fees"
    VOLATILITY = "volatility"
    CORRELATION = "correlation"
    STRATEGIES = "strategies"
    SYSTEM_HEALTH = "system_health"
    BACKTEST = "backtest"
    UNSUPPORTED_ACTION = "unsupported_action"
    ADVICE = "advice"
    HELP = "help"
    OUT_OF_SCOPE = "out_of_scope"


class Guess(NamedTuple):
    """intent is None when the lead over the runner-up is too small; candidates are the best two."""

    intent: Intent | None
    probability: float
    candidates: tuple[Intent, Intent]


class IntentClassifier:
    """Trained once, then read-only: safe to share between runs."""

    def __init__(self, phrasings_file: Path = PHRASINGS_FILE) -> None:
        # Imported here because it takes seconds, and the api has to be ready before: training runs in a thread.
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import FeatureUnion, Pipeline
        from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

        self._limited = threadpool_limits
        texts: list[str] = []
        labels: list[str] = []
        for label, phrasings in tomllib.loads(phrasings_file.read_text()).items():
            texts.extend(mask(phrasing) for phrasing in phrasings)
            labels.extend([Intent(label).value] * len(phrasings))
        features = FeatureUnion(
            [
                ("words", TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"[a-z#]+")),  # noqa: S106
                ("characters", TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), sublinear_tf=True)),
            ]
        )
        regression = LogisticRegression(C=REGULARISATION_C, max_iter=300, class_weight="balanced")
        self._pipeline = Pipeline([("features", features), ("regression", regression)])
        # The matrices are small: more BLAS threads than one cost ten times the time.
        with threadpool_limits(1):
            self._pipeline.fit(texts, labels)

    def guess(self, clause: str) -> Guess:
        text = mask(clause)
        with self._limited(1):
            probabilities = self._pipeline.predict_proba([text])[0]
        ranked = sorted(zip(probabilities, self._pipeline.classes_, strict=True), reverse=True)[:2]
        (best, label), (second, other) = ((float(p), Intent(name)) for p, name in ranked)
        sure = best >= PROBABILITY_MIN and best - second >= LEAD_MIN and re.search(r"\w", text) is not None
        return Guess(label if sure else None, best, (label, other))
