"""DATE: how often a text's words look replaced to a network that has only seen organic texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tests.bench.accounts import MAX_WORDS, VOCABULARY, Account, Floats
from tests.bench.peers.protocol import Training, trailing_means

PER_ACCOUNT = 64
STEPS = 500
BATCH = 128
SEED = 19

# Section 4.1 of the paper: patterns, masked share, weights of the two tasks.
PATTERNS = 50
MASKED = 0.5
RTD_WEIGHT, RMD_WEIGHT = 50.0, 100.0

WIDTH = 32
HIDDEN = 64
NEIGHBOURS = (-2, -1, 0, 1, 2)
LEARNING_RATE = 2e-3


class Date:
    """DATE with a small network: one less the mean probability that a word is original (the paper's PL_RTD).

    A pattern out of `PATTERNS` says which words of a text are replaced by random ones. A discriminator learns two tasks
    on organic texts: for each word whether it was replaced (RTD), and for the text which pattern was used (RMD). A text
    is scored as it is: where its words look replaced, it is unlike the texts that were learnt. An account's score is
    the mean over its latest prompts, as in LabRAI/mmd-llm-mea-detection.

    The paper's discriminator is ELECTRA's (a transformer), trained from scratch, with random words as one of its two
    generators. Here no library for such networks is at hand: the discriminator sees a word with its two neighbours on
    either side and the mean of the text (one hidden layer), and tells the pattern from the words' evidence by place. So
    it knows which words go together nearby and in a text, and less of grammar. Random words come from the texts' own
    frequencies, since among uniform ones mere rarity would tell.

    References
    ----------
    [^1]: Manolache, A., Brad, F., Burceanu, E. (2021). DATE: detecting anomalies in text via self-supervision of
          transformers. NAACL.

    Parameters
    ----------
    steps
        Batches of `BATCH` texts to learn from.
    """

    def __init__(self, steps: int = STEPS) -> None:
        self._steps = steps

    def fit(self, training: Training) -> None:
        """Train the discriminator on organic texts."""
        rng = np.random.default_rng(SEED)
        texts = [
            a.words[i]
            for a in training.accounts
            for i in rng.permutation(len(a.words))[:PER_ACCOUNT]
            if len(a.words[i])
        ]
        table = padded(texts)
        drawn = table[table > 0]
        patterns = np.zeros((PATTERNS, MAX_WORDS), np.bool_)
        for pattern in patterns:
            pattern[rng.permutation(MAX_WORDS)[: int(MASKED * MAX_WORDS)]] = True
        self.network = Discriminator(rng)
        for _ in range(self._steps):
            original = table[rng.integers(len(table), size=BATCH)]
            chosen = rng.integers(PATTERNS, size=BATCH)
            masked = patterns[chosen] & (original > 0)
            words = np.where(masked, rng.choice(drawn, original.shape), original)
            self.network.learn(words, words != original, chosen)

    def scores(self, account: Account) -> Floats:
        """See `Peer.scores`."""
        return trailing_means(self.replaced(account.words), account.seen)

    def replaced(self, texts: Sequence[NDArray[np.uint16]]) -> Floats:
        """Mean probability that a word of a text was replaced; 0 for a text without words."""
        result = np.zeros(len(texts))
        for begin in range(0, len(texts), 512):
            words = padded(texts[begin : begin + 512])
            seen = self.network.see(words)
            share = seen.valid / (1.0 + np.exp(-seen.logit))
            result[begin : begin + 512] = share.sum(axis=1) / np.maximum(seen.valid.sum(axis=1), 1)
        return result


def padded(texts: Sequence[NDArray[np.uint16]]) -> NDArray[np.int64]:
    """Texts as rows of `MAX_WORDS` words, 0 behind their end."""
    table = np.zeros((len(texts), MAX_WORDS), np.int64)
    for row, words in zip(table, texts, strict=True):
        row[: len(words)] = words
    return table


class Seen(NamedTuple):
    """One pass through the network: what its gradient needs."""

    valid: NDArray[np.bool_]
    window: NDArray[np.float32]
    hidden: NDArray[np.float32]
    logit: NDArray[np.float32]
    """How much each word looks replaced, shape `(texts, words)`."""


class Discriminator:
    """Words in their neighbourhood to how much each looks replaced, and to the pattern; learnt by Adam.

    Parameters
    ----------
    rng
        Draws the first weights.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        inputs = (len(NEIGHBOURS) + 1) * WIDTH
        self._weights = {
            "words": rng.normal(0.0, 0.3, (VOCABULARY, WIDTH)),
            "hidden": rng.normal(0.0, np.sqrt(2.0 / inputs), (inputs, HIDDEN)),
            "hidden_bias": np.zeros(HIDDEN),
            "logit": rng.normal(0.0, np.sqrt(1.0 / HIDDEN), HIDDEN),
            "logit_bias": np.zeros(1),
            "pattern": np.zeros((MAX_WORDS, PATTERNS)),
            "pattern_bias": np.zeros(PATTERNS),
        }
        self._weights = {name: w.astype(np.float32) for name, w in self._weights.items()}
        self._moments = {name: (np.zeros_like(w), np.zeros_like(w)) for name, w in self._weights.items()}
        self._steps = 0

    def see(self, words: NDArray[np.int64]) -> Seen:
        """One pass forward over rows of words."""
        w = self._weights
        valid = words > 0
        vectors = w["words"][words] * valid[:, :, None]
        mean = vectors.sum(axis=1) / np.maximum(valid.sum(axis=1), 1)[:, None]
        parts = [shifted(vectors, by) for by in NEIGHBOURS]
        parts.append(np.broadcast_to(mean[:, None].astype(np.float32), vectors.shape))
        window = np.concatenate(parts, axis=2)
        hidden = np.maximum(window @ w["hidden"] + w["hidden_bias"], 0.0)
        return Seen(valid, window, hidden, hidden @ w["logit"] + w["logit_bias"])

    def learn(self, words: NDArray[np.int64], replaced: NDArray[np.bool_], pattern: NDArray[np.int64]) -> float:
        """One step on both tasks; returns the loss before it."""
        loss, gradients = self.gradients(words, replaced, pattern)
        self._steps += 1
        for name, gradient in gradients.items():
            first, second = self._moments[name]
            first += 0.1 * (gradient - first)
            second += 0.001 * (gradient * gradient - second)
            scale = np.sqrt(second / (1.0 - 0.999**self._steps)) + 1e-8
            self._weights[name] -= LEARNING_RATE * (first / (1.0 - 0.9**self._steps)) / scale
        return loss

    def gradients(
        self, words: NDArray[np.int64], replaced: NDArray[np.bool_], pattern: NDArray[np.int64]
    ) -> tuple[float, dict[str, NDArray[np.float32]]]:
        """The loss of both tasks, and its gradient by each weight."""
        w = self._weights
        seen = self.see(words)
        texts, count = len(words), max(int(seen.valid.sum()), 1)
        evidence = seen.logit * seen.valid
        z = evidence @ w["pattern"] + w["pattern_bias"]
        z -= z.max(axis=1, keepdims=True)
        log_share = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
        token_loss = ((np.logaddexp(0.0, seen.logit) - replaced * seen.logit) * seen.valid).sum() / count
        loss = RTD_WEIGHT * token_loss - RMD_WEIGHT * log_share[np.arange(texts), pattern].mean()
        by_z = np.exp(log_share)
        by_z[np.arange(texts), pattern] -= 1.0
        by_z *= RMD_WEIGHT / texts
        by_logit = RTD_WEIGHT / count * (1.0 / (1.0 + np.exp(-seen.logit)) - replaced) + by_z @ w["pattern"].T
        by_logit = (by_logit * seen.valid).astype(np.float32)
        by_hidden = by_logit[:, :, None] * w["logit"] * (seen.hidden > 0.0)
        by_window = by_hidden @ w["hidden"].T
        by_vectors = sum(shifted(by_window[:, :, k * WIDTH : (k + 1) * WIDTH], -by) for k, by in enumerate(NEIGHBOURS))
        by_mean = by_window[:, :, -WIDTH:].sum(axis=1) / np.maximum(seen.valid.sum(axis=1), 1)[:, None]
        by_vectors = (by_vectors + by_mean[:, None]) * seen.valid[:, :, None]
        by_words = np.zeros_like(w["words"])
        np.add.at(by_words, words.ravel(), by_vectors.reshape(-1, WIDTH).astype(np.float32))
        flat = by_hidden.reshape(-1, HIDDEN)
        return float(loss), {
            "words": by_words,
            "hidden": seen.window.reshape(len(flat), -1).T @ flat,
            "hidden_bias": flat.sum(axis=0),
            "logit": seen.hidden.reshape(-1, HIDDEN).T @ by_logit.ravel(),
            "logit_bias": by_logit.sum(keepdims=True).reshape(1),
            "pattern": (evidence.T @ by_z).astype(np.float32),
            "pattern_bias": by_z.sum(axis=0).astype(np.float32),
        }


def shifted(rows: NDArray[Any], by: int) -> NDArray[Any]:
    """Rows of words moved so that place i holds what stood at i + `by`; zeros from outside."""
    result = np.zeros_like(rows)
    if by > 0:
        result[:, :-by] = rows[:, by:]
    elif by < 0:
        result[:, -by:] = rows[:, :by]
    else:
        result[:] = rows
    return result
