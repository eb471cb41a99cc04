"""Texts to vectors. The first embedder is lexical and says so in its name: it matches words and their parts, not
meanings."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, Protocol

DIMENSIONS = 384
TEXT_LIMIT_CHARS = 20_000
WORD_DIMENSIONS = 256
CHARACTER_DIMENSIONS = 128
CHARACTER_WEIGHT = 0.5
WORD = r"(?u)\b[^\W\d_]\w+\b"


class Embedder(Protocol):
    """Gives vectors of one length, L2-normalised; equal texts give equal vectors. name is stored with each vector,
    and vectors of different embedders are never compared."""

    @property
    def name(self) -> str: ...
    @property
    def dimensions(self) -> int: ...
    def embed(self, texts: Sequence[str]) -> list[list[float]]: ...


class HashingEmbedder:
    """Feature hashing (Weinberger et al., 2009) of words and pairs of words into 256 dimensions and of 3- to
    5-character pieces into 128, so that `slipped` is near `slippage`. No model, no training, no network."""

    name = "hashing-384"
    dimensions = DIMENSIONS

    @cached_property
    def _vectorizers(self) -> tuple[Any, Any]:
        # Imported on first use: it takes longer to load than all the rest, and most processes never embed.
        from sklearn.feature_extraction.text import HashingVectorizer

        words = HashingVectorizer(
            n_features=WORD_DIMENSIONS, ngram_range=(1, 2), stop_words="english", token_pattern=WORD, norm="l2"
        )
        characters = HashingVectorizer(
            n_features=CHARACTER_DIMENSIONS, analyzer="char_wb", ngram_range=(3, 5), norm="l2"
        )
        return words, characters

    def warm(self) -> None:
        """Load what the first embedding would wait for; some seconds on a busy machine. Call it in a thread."""
        self.embed(["warm"])

    def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """One vector a text; the zero vector for a text without letters."""
        if not texts:
            return []
        import numpy as np

        capped = [text[:TEXT_LIMIT_CHARS].lower() for text in texts]
        by_words, by_characters = self._vectorizers
        words = by_words.transform(capped).toarray()
        characters = by_characters.transform(capped).toarray() * CHARACTER_WEIGHT
        vectors = np.hstack([words, characters])
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        normalised: list[list[float]] = np.divide(
            vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0
        ).tolist()
        return normalised
