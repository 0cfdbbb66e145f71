"""Embeddings: made from text by weights that ship inside a package, or supplied and decoded.

An embedding is a point in the space of meanings; only its direction is used. Two ways lead to one:

* `WordLlamaEmbedder` averages the word-piece vectors of WordLlama (256 numbers a piece, 16 MB, distilled from the
  input layers of large models; https://github.com/dleemiller/WordLlama, MIT). English-leaning. It is loaded offline,
  from the package's files only.
* `decode_embeddings` reads what was computed elsewhere; no text then reaches this service at all.

Both give the same bits for a text or a record whatever batch it comes in.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from enum import IntEnum
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import Final, Protocol, cast

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from tokenizers import models

from detectors.kernel import kernel

MAX_CHARACTERS: Final = 8192
"""Longest text that is embedded whole. A megabyte would take seconds and a gigabyte; 8,192 characters take
milliseconds. It belongs to the model rather than to the settings: the baseline is fitted to what it cuts."""

SMALLEST_NORM: Final = 1e-12
"""Embeddings shorter than this point nowhere; normalising them would leave the range of float32."""


class TextEmbedder(Protocol):
    """Turns texts into vectors. Implementations do no I/O once loaded, and keep no text."""

    @property
    def name(self) -> str:
        """Name of the model; equal names promise equal vectors, so it is compared with the baseline's."""

    @property
    def dimension(self) -> int:
        """Length of the vectors."""

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return the embeddings of `texts`, shape `(len(texts), dimension)`, not normalised.

        A row's bits depend on its text alone, never on the batch. Any `str` is accepted: a text without content (empty)
        gives zeros, lone surrogates are replaced, and work is bounded however long a text is.
        """


def clip(text: str, limit: int = MAX_CHARACTERS) -> str:
    """Return `text`, or its first and last `limit // 2` characters when it is longer.

    Both ends are kept since a long prompt asks at its end as often as at its beginning, and padding one end must not
    hide the question.

    Examples
    --------
    >>> clip("abcdefgh", 4)
    'abgh'
    """
    half = limit // 2
    return text if len(text) <= limit else text[:half] + text[-half:]


def replace_surrogates(text: str) -> str:
    r"""Return `text` with lone surrogates replaced by U+FFFD, pairs joined.

    Examples
    --------
    >>> replace_surrogates("a\ud83d"), replace_surrogates("\ud83d\ude00")
    ('a\ufffd', '😀')
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


# ---------------------------------------------------------------------------------------------- text to vectors

WORDLLAMA: Final = "wordllama-l2-supercat-256"
WORDLLAMA_DIMENSION: Final = 256
_WEIGHTS: Final = "weights/l2_supercat_256.safetensors"
_TOKENIZER: Final = "tokenizers/l2_supercat_tokenizer_config.json"

_SPACE: Final = "▁"
# Llama's vocabulary has the space mark only at the start of a piece (or runs of it alone), so no merge crosses from
# a word into the next space: cutting there gives the same pieces as tokenizing the whole text. A word is written
# without the one mark that all have; those after several spaces keep the others.
_WORD: Final = re.compile(f"{_SPACE}({_SPACE}*[^{_SPACE}]*)")

CACHED_WORDS: Final = 1 << 16
CACHED_WORD_CHARACTERS: Final = 20
"""The cache keeps the pieces of short words without digits, so that it cannot keep anybody's secrets. It is emptied
when full: a scan of the least used would cost more than refilling, and the order of use must not matter."""


class WordLlamaEmbedder:
    """Mean of WordLlama's word-piece vectors.

    The weights are float16, so sums of up to 2**26 of them are exact in float64 and independent of order; one division
    and one rounding to float32 follow. Cost: 8 to 20 µs for a text of 20 words, 0.2 to 0.4 ms for 600. Not for use by
    several threads at once.

    Parameters
    ----------
    weights
        Vector of each word piece, float16, shape `(pieces, dimension)`.
    tokenizer
        A tokenizer in the JSON form of the `tokenizers` library; its BPE model is used, on words cut here.

    Examples
    --------
    >>> embedder = load_wordllama()
    >>> a, b, c = embedder.embed(["How do I boil an egg?", "Cooking eggs in hot water", "Tax law of Peru"])
    >>> cosine = lambda x, y: float(x @ y / np.sqrt((x @ x) * (y @ y)))
    >>> cosine(a, b) > 0.5 > cosine(a, c)
    True
    """

    name = WORDLLAMA

    def __init__(self, weights: NDArray[np.float16], tokenizer: bytes) -> None:
        self._weights = np.ascontiguousarray(weights, np.float32)
        self._model = _bare_model(tokenizer)
        self._pieces: dict[str, list[int]] = {}

    @property
    def dimension(self) -> int:
        """256."""
        return int(self._weights.shape[1])

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """See `TextEmbedder.embed`."""
        ids: list[int] = []
        ends = np.empty(len(texts), np.int64)
        for row, text in enumerate(texts):
            ids.extend(self._ids(text))
            ends[row] = len(ids)
        out = np.empty((len(texts), self.dimension), np.float32)
        _mean_rows(self._weights, np.array(ids, np.int32), ends, out)
        return out

    def _ids(self, text: str) -> list[int]:
        """Word pieces of one text."""
        text = replace_surrogates(clip(text))
        if not text:
            return []
        words = _words(text)
        pieces = list(map(self._pieces.get, words))
        if None in pieces:
            pieces = [known or self._tokenize(word) for word, known in zip(words, pieces, strict=True)]
        return list(chain.from_iterable(cast(list[list[int]], pieces)))

    def _tokenize(self, word: str) -> list[int]:
        """Word pieces of one word, remembered if that is allowed."""
        ids = [piece.id for piece in self._model.tokenize(_SPACE + word)]
        if _may_be_kept(word):
            if len(self._pieces) >= CACHED_WORDS:
                self._pieces.clear()
            self._pieces[word] = ids
        return ids


def _words(text: str) -> list[str]:
    """Cut a text at its spaces.

    Examples
    --------
    >>> _words("boil an  egg")
    ['boil', 'an', '▁egg']
    """
    marked = _SPACE + text.replace(" ", _SPACE)
    if _SPACE + _SPACE in marked:
        return _WORD.findall(marked)
    return marked.split(_SPACE)[1:]  # the same, and thrice as fast


def _may_be_kept(word: str) -> bool:
    return len(word) <= CACHED_WORD_CHARACTERS and not any(map(str.isdigit, word))


def _pair(merge: str | list[str]) -> tuple[str, str]:
    """Older files write a merge as two pieces with a space between, newer ones as a list."""
    left, right = merge.split(" ") if isinstance(merge, str) else merge
    return left, right


def _bare_model(description: bytes) -> models.BPE:
    """Return a tokenizer's model alone: no special tokens, which a prompt could spell out, and no cache of its own."""
    model = json.loads(description)["model"]
    return models.BPE(
        vocab=model["vocab"],
        merges=[_pair(merge) for merge in model["merges"]],
        cache_capacity=0,
        unk_token=model["unk_token"],
        fuse_unk=model["fuse_unk"],
        byte_fallback=model["byte_fallback"],
    )


@kernel
def _mean_rows(
    weights: NDArray[np.float32], ids: NDArray[np.int32], ends: NDArray[np.int64], out: NDArray[np.float32]
) -> None:
    """Write into each row of `out` the mean of the weights of its ids; zeros when it has none."""
    dimension = weights.shape[1]
    total = np.empty(dimension, np.float64)
    start = 0
    for row in range(out.shape[0]):
        end = ends[row]
        for j in range(dimension):
            total[j] = 0.0
        for k in range(start, end):
            piece = ids[k]
            for j in range(dimension):
                total[j] += np.float64(weights[piece, j])
        count = np.float64(max(end - start, 1))
        for j in range(dimension):
            out[row, j] = np.float32(total[j] / count)
        start = end


class LazyEmbedder:
    """A text model that is loaded with the first text, and never where embeddings come instead.

    Parameters
    ----------
    name, dimension
        Those of the model.
    load
        Loads it.

    Examples
    --------
    >>> embedder = lazy_wordllama()
    >>> embedder.name, embedder.dimension, embedder.is_loaded
    ('wordllama-l2-supercat-256', 256, False)
    >>> embedder.embed(["How do I boil an egg?"]).shape, embedder.is_loaded
    ((1, 256), True)
    """

    def __init__(self, name: str, dimension: int, load: Callable[[], TextEmbedder]) -> None:
        self.name, self.dimension, self._load = name, dimension, load
        self._loaded: TextEmbedder | None = None

    @property
    def is_loaded(self) -> bool:
        """Whether a text has come."""
        return self._loaded is not None

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """See `TextEmbedder.embed`."""
        if self._loaded is None:
            self._loaded = self._load()
        return self._loaded.embed(texts)


def lazy_wordllama() -> LazyEmbedder:
    """The embedder of `load_wordllama`, loaded with the first text. Raises at once if the package is missing."""
    _wordllama_folder()
    return LazyEmbedder(WORDLLAMA, WORDLLAMA_DIMENSION, load_wordllama)


def load_wordllama() -> WordLlamaEmbedder:
    """Return the embedder of the weights that the `wordllama` package ships.

    Takes 0.15 s and 80 MB, so keep what it returns. The only place of this package that touches files besides the
    baseline. The package is found but not imported: its import sets up logging.

    Raises
    ------
    ModuleNotFoundError
        `wordllama` is not installed.
    """
    folder = _wordllama_folder()
    weights = safetensors.numpy.load((folder / _WEIGHTS).read_bytes())["embedding.weight"]
    return WordLlamaEmbedder(weights, (folder / _TOKENIZER).read_bytes())


def _wordllama_folder() -> Path:
    spec = find_spec("wordllama")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("the text model needs the package wordllama: pip install wordllama")
    return Path(spec.submodule_search_locations[0])


# ------------------------------------------------------------------------------------------- supplied embeddings


class Supplied(IntEnum):
    """What a supplied embedding turned out to be."""

    GOOD = 0
    ZERO = 1
    """All but zero: it points nowhere. What embeds an empty text gives this; it is no error, and no content."""

    NOT_FINITE = 2
    """It holds NaN or an infinity (or a number beyond float32)."""

    WRONG_DIMENSION = 3
    """It is not of the baseline's model."""


_EXPONENT: Final = np.uint32(0x7F800000)


@kernel
def _judge(vectors: NDArray[np.float32], bits: NDArray[np.uint32], verdicts: NDArray[np.uint8]) -> None:
    """Set the verdict of each row that has none; `bits` are the vectors seen as integers, safe from fast maths."""
    for row in range(vectors.shape[0]):
        if verdicts[row] != Supplied.GOOD:
            continue
        square = np.float64(0.0)
        finite = True
        for j in range(vectors.shape[1]):
            if bits[row, j] & _EXPONENT == _EXPONENT:
                finite = False
            square += np.float64(vectors[row, j]) * np.float64(vectors[row, j])
        if not finite:
            verdicts[row] = Supplied.NOT_FINITE
        elif square < SMALLEST_NORM * SMALLEST_NORM:
            verdicts[row] = Supplied.ZERO


def decode_embeddings(
    supplied: Sequence[bytes | Sequence[float]], dimension: int
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Decode embeddings that were computed elsewhere.

    Parameters
    ----------
    supplied
        Each either bytes, little-endian float16 when there are two a number and float32 when there are four (both are
        read exactly), or a list of numbers, which are rounded to float32.
    dimension
        Length that the baseline's model gives.

    Returns
    -------
    vectors
        float32, shape `(len(supplied), dimension)`; rows that are not `Supplied.GOOD` mean nothing.
    verdicts
        uint8, shape `(len(supplied),)`, values of `Supplied`.

    Examples
    --------
    >>> vectors, verdicts = decode_embeddings([np.array([1, -2], "<f2").tobytes(), [0.5, 4.0], [1.0], b"\\0" * 8], 2)
    >>> vectors[:2].tolist(), verdicts.tolist()
    ([[1.0, -2.0], [0.5, 4.0]], [0, 0, 3, 1])
    """
    vectors = np.zeros((len(supplied), dimension), np.float32)
    verdicts = np.full(len(supplied), Supplied.GOOD, np.uint8)
    packed: dict[str, list[int]] = {"<f2": [], "<f4": []}
    for row, item in enumerate(supplied):
        if isinstance(item, bytes):
            width = {2 * dimension: "<f2", 4 * dimension: "<f4"}.get(len(item))
            if width is not None:
                packed[width].append(row)
                continue
        elif len(item) == dimension:
            with np.errstate(over="ignore"):
                vectors[row] = item
            continue
        verdicts[row] = Supplied.WRONG_DIMENSION
    for width, rows in packed.items():
        if rows:
            joined = b"".join(cast(bytes, supplied[row]) for row in rows)
            vectors[rows] = np.frombuffer(joined, width).reshape(-1, dimension)
    _judge(vectors, vectors.view(np.uint32), verdicts)
    return vectors, verdicts


def check_vectors(vectors: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Judge vectors that a `TextEmbedder` made: a value of `Supplied` for each row."""
    verdicts = np.full(len(vectors), Supplied.GOOD, np.uint8)
    _judge(vectors, vectors.view(np.uint32), verdicts)
    return verdicts
