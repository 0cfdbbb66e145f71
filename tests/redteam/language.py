"""Prose with a large vocabulary: topics are neighbourhoods of words, texts are drawn from them.

Words are those that the text model has a piece of their own for, so some are of other languages and some are stems: to
an average of word pieces that is what prompts look like. What belongs together lies together, because a topic is a word
and the words nearest to it in the model's space.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from itertools import accumulate
from pathlib import Path
from random import Random

import numpy as np
from numpy.typing import NDArray

from detectors.embedding import load_wordllama
from streams.simulation.vocabulary import NAMES, PLACES

_TOKENIZER = "tokenizers/l2_supercat_tokenizer_config.json"
_WORD = re.compile("▁([a-z]{4,})")

TOPIC_WORDS = 40
"""Words of a topic, from the nearest on: about as far as a neighbourhood holds together."""

_GLUE = (
    *("the", "the", "the", "a", "a", "of", "of the", "and", "and", "to", "to the", "in", "in the", "is", "it", "for"),
    *("on", "with", "that", "which", "as", "by the", "from", "at", "or", "but", "if", "when", "was", "are", "be", "an"),
    *("this", "not", "can", "has", "have", "will", "its", "their", "more", "into", "than", "so", "after", "between"),
    *("while", "because", "does", "how", "what", "there", "every", "each", "some", "only", "also", "about", "over"),
    *("I", "you", "we", "they", "my", "your", "our", "should", "could", "would", "must", "may", "no", "any", "most"),
)


@dataclass(frozen=True)
class Lexicon:
    """Words, most frequent first, the number of each, and their unit vectors, shape `(n, d)`."""

    words: tuple[str, ...]
    number: dict[str, int]
    vectors: NDArray[np.float32]


@cache
def lexicon() -> Lexicon:
    """The words of at least four letters that the text model knows whole."""
    spec = find_spec("wordllama")
    assert spec is not None
    assert spec.submodule_search_locations
    vocabulary = json.loads((Path(spec.submodule_search_locations[0]) / _TOKENIZER).read_text("utf-8"))["model"][
        "vocab"
    ]
    found = [(number, match[1]) for piece, number in vocabulary.items() if (match := _WORD.fullmatch(piece))]
    words = tuple(word for _, word in sorted(found))
    vectors = load_wordllama().embed(words)
    number = {word: i for i, word in enumerate(words)}
    return Lexicon(words, number, vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


@cache
def _nearest() -> NDArray[np.int64]:
    """For each word the numbers of the words nearest to it, itself first; shape `(n, TOPIC_WORDS)`.

    All at once: one by one it takes longer as soon as a few hundred topics are drawn.
    """
    vectors = lexicon().vectors
    rows = []
    for begin in range(0, len(vectors), 512):
        far = -(vectors[begin : begin + 512] @ vectors.T)
        near = np.argpartition(far, TOPIC_WORDS, axis=1)[:, :TOPIC_WORDS]
        order = np.argsort(np.take_along_axis(far, near, axis=1), axis=1, kind="stable")
        rows.append(np.take_along_axis(near, order, axis=1))
    return np.concatenate(rows)


@cache
def neighbourhood(seed: int) -> tuple[str, ...]:
    """The words nearest to the lexicon's word number `seed`, itself first."""
    return tuple(lexicon().words[i] for i in _nearest()[seed])


def draw_topic(rng: Random) -> tuple[str, ...]:
    """A topic: any word and what lies near it."""
    return neighbourhood(rng.randrange(len(lexicon().words)))


def narrowed(topic: Sequence[str], count: int, rng: Random) -> tuple[str, ...]:
    """A few words of a topic, those near its centre more often."""
    return tuple(sorted(set(_zipf(topic, 2 * count, rng))))[:count] or tuple(topic[:1])


def field(rng: Random, topics: int) -> tuple[str, ...]:
    """The words of a larger subject: several topics near each other, such as a product or a code base has."""
    centre = draw_topic(rng)
    words: dict[str, None] = dict.fromkeys(centre)
    for word in rng.sample(centre, min(topics, len(centre))):
        words.update(dict.fromkeys(neighbourhood(lexicon().number[word])[:20]))
    return tuple(words)


def _zipf(words: Sequence[str], count: int, rng: Random) -> list[str]:
    weights = list(accumulate(1.0 / (rank + 3.0) for rank in range(len(words))))
    return rng.choices(words, cum_weights=weights, k=count)


def passage(words: Sequence[str], length: int, rng: Random, *, common: float = 0.15) -> str:
    """About `length` words: glue and words of `words` in turn, a share of them from anywhere, in sentences."""
    content = _zipf(words, max(1, length // 2), rng)
    glue = rng.choices(_GLUE, k=len(content))
    everyday = lexicon().words[:1500]
    out: list[str] = []
    for i, (between, word) in enumerate(zip(glue, content, strict=True)):
        word = rng.choice(everyday) if rng.random() < common else word
        out += (between, word + ("." if i % 7 == 6 else ""))
    text = " ".join(out)
    return text[:1].upper() + text[1:]


def fill(frame: str, words: Sequence[str], rng: Random) -> str:
    """Put words into a frame of `streams.simulation`; its names, places and numbers are drawn."""
    thing, other, act, trouble, more, trait, setting, domain = (rng.choice(words) for _ in range(8))
    name, friend, third = rng.sample(NAMES, 3)
    return frame.format(
        thing=thing,
        other=other,
        act=act,
        trouble=f"{trouble} {more}",
        trait=trait,
        setting=f"in {setting}",
        domain=domain,
        name=name,
        friend=friend,
        third=third,
        place=rng.choice(PLACES),
        n=rng.randint(2, 60),
        a=rng.randint(20, 400),
        b=rng.randint(3, 90),
        c=rng.randint(3, 12),
        d=rng.randint(10, 60),
    )


def length(rng: Random, median: float, spread: float = 0.8) -> int:
    """A number of words or tokens, log-normal, from 1 to 1,200."""
    return max(1, min(1200, round(median * rng.lognormvariate(0.0, spread))))
