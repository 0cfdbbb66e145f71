"""Text embeddings are the published model's, the same in every batch, and bounded; supplied ones are read exactly."""

from __future__ import annotations

import logging
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from tokenizers import Tokenizer

from detectors.embedding import (
    CACHED_WORDS,
    MAX_CHARACTERS,
    WORDLLAMA,
    Supplied,
    WordLlamaEmbedder,
    clip,
    decode_embeddings,
    load_wordllama,
    replace_surrogates,
)

TEXTS = [
    "How do I boil an egg?",
    "a  b   c ",
    "  two spaces first",
    "tab\tand\nnew line",
    "中文 测试 客服，您好！",
    "é 😀😀 x",
    "▁ the space mark ▁▁ itself",
    "def f(x):\n    return x ** 2  # 3.14159",
    " ",
]


@pytest.fixture(scope="module")
def published_tokenizer() -> Tokenizer:
    spec = find_spec("wordllama")
    assert spec is not None
    assert spec.origin is not None
    return Tokenizer.from_file(str(Path(spec.origin).parent / "tokenizers" / "l2_supercat_tokenizer_config.json"))


def cosine(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


def test_pieces_are_those_of_the_published_tokenizer(
    embedder: WordLlamaEmbedder, published_tokenizer: Tokenizer
) -> None:
    for text in TEXTS:
        assert embedder._ids(text) == published_tokenizer.encode(text, add_special_tokens=False).ids, text


def test_vectors_are_those_of_the_wordllama_package(embedder: WordLlamaEmbedder) -> None:
    """The package is imported in a process of its own, because its import sets up logging."""
    code = (
        "import sys, pathlib, numpy, wordllama\n"
        "folder = pathlib.Path(wordllama.__file__).parent\n"
        "model = wordllama.WordLlama.load(cache_dir=folder, disable_download=True)\n"
        f"sys.stdout.buffer.write(model.embed({TEXTS!r}).astype('<f4').tobytes())"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    published = np.frombuffer(done.stdout, "<f4").reshape(len(TEXTS), -1)
    np.testing.assert_allclose(embedder.embed(TEXTS), published, atol=2e-6)


def test_likeness_in_meaning_is_likeness_in_direction(embedder: WordLlamaEmbedder) -> None:
    egg, cooking, tax = embedder.embed([TEXTS[0], "Cooking eggs in hot water", "Tax law of Peru"])
    assert cosine(egg, cooking) > 0.5 > cosine(egg, tax)


def test_bits_depend_on_the_text_alone(embedder: WordLlamaEmbedder) -> None:
    together = embedder.embed(TEXTS)
    fresh = load_wordllama()
    for text, row in zip(reversed(TEXTS), reversed(list(together)), strict=True):
        assert fresh.embed([text])[0].tobytes() == row.tobytes()


def test_loading_leaves_logging_alone_and_does_not_import_the_package() -> None:
    code = (
        "import sys, logging\nfrom detectors.embedding import load_wordllama\nload_wordllama()\n"
        "assert 'wordllama' not in sys.modules and not logging.getLogger().handlers"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    assert logging.getLogger().name == "root"


def test_name_and_dimension(embedder: WordLlamaEmbedder) -> None:
    assert (embedder.name, embedder.dimension) == (WORDLLAMA, 256)


def test_no_texts_give_no_rows_and_an_empty_text_gives_zeros(embedder: WordLlamaEmbedder) -> None:
    assert embedder.embed([]).shape == (0, 256)
    assert not embedder.embed([""]).any()
    assert embedder.embed(["", "x"])[1].any()


def test_lone_surrogates_are_embedded_as_replacement_characters(embedder: WordLlamaEmbedder) -> None:
    broken, repaired = embedder.embed(["tell me \ud83d", "tell me �"])
    assert (broken == repaired).all()
    assert replace_surrogates("\udc00\ud83d\ude00") == "�😀"


def test_special_tokens_in_a_prompt_are_only_text(embedder: WordLlamaEmbedder) -> None:
    assert 2 not in embedder._ids("</s>")
    assert embedder.embed(["</s>"]).any()


@pytest.mark.parametrize("unit", ["word ", "中", "😀", "x", " ", "\ud83d"])
def test_a_megabyte_is_cut_to_its_two_ends(embedder: WordLlamaEmbedder, unit: str) -> None:
    text = "beginning " + unit * 1_000_000 + " end"
    assert len(embedder._ids(text)) <= 4 * (MAX_CHARACTERS + 1)
    assert np.isfinite(embedder.embed([text])).all()
    assert clip(text).startswith("beginning ")
    assert clip(text).endswith(" end")
    assert len(clip(text)) == MAX_CHARACTERS


def test_memory_of_words_is_bounded_and_keeps_neither_numbers_nor_long_words() -> None:
    embedder = load_wordllama()
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = [a + b + c + d for a in letters for b in letters for c in letters for d in letters[:8]]
    before = embedder.embed(words[:1])
    for start in range(0, len(words), 1500):
        embedder.embed([" ".join(words[start : start + 1500])])
        assert len(embedder._pieces) <= CACHED_WORDS
    assert (embedder.embed(words[:1]) == before).all()
    embedder.embed(["card 4111-1111-1111-1111 " + "q" * 30])
    assert "card" in embedder._pieces
    assert not any("4111" in word or "qqq" in word for word in embedder._pieces)


def half(*numbers: float) -> bytes:
    return np.array(numbers, "<f2").tobytes()


def single(*numbers: float) -> bytes:
    return np.array(numbers, "<f4").tobytes()


def test_supplied_embeddings_of_every_form_are_read_exactly() -> None:
    vectors, verdicts = decode_embeddings([half(0.5, 65504), single(0.1, -1e-30), [0.1, 2]], 2)
    assert verdicts.tolist() == [Supplied.GOOD] * 3
    assert vectors.tolist() == [[0.5, 65504.0], [np.float32(0.1), np.float32(-1e-30)], [np.float32(0.1), 2.0]]
    assert vectors.dtype == np.float32


def test_every_half_is_read_as_numpy_reads_it() -> None:
    every = np.arange(1 << 16, dtype="<u2")
    vectors, verdicts = decode_embeddings([h.tobytes() + half(1.0) for h in every], 2)
    expected = every.view("<f2").astype(np.float32)
    finite = np.isfinite(expected)
    assert ((verdicts == Supplied.GOOD) == finite).all()
    assert (vectors[finite, 0] == expected[finite]).all()


@pytest.mark.parametrize(
    ("supplied", "verdict"),
    [
        (half(1, np.nan), Supplied.NOT_FINITE),
        (single(-np.inf, 1), Supplied.NOT_FINITE),
        ([1e39, 1.0], Supplied.NOT_FINITE),
        ([float("nan"), 1.0], Supplied.NOT_FINITE),
        (single(0, -0.0), Supplied.ZERO),
        (single(1e-40, 0), Supplied.ZERO),
        ([0, 0], Supplied.ZERO),
        (b"", Supplied.WRONG_DIMENSION),
        (half(1, 2, 3), Supplied.WRONG_DIMENSION),
        ([1.0], Supplied.WRONG_DIMENSION),
        ([], Supplied.WRONG_DIMENSION),
    ],
)
def test_an_unusable_embedding_is_judged_and_its_neighbours_are_not(
    supplied: bytes | list[float], verdict: Supplied
) -> None:
    vectors, verdicts = decode_embeddings([half(1, 2), supplied, single(3, 4)], 2)
    assert verdicts.tolist() == [Supplied.GOOD, verdict, Supplied.GOOD]
    assert vectors[[0, 2]].tolist() == [[1.0, 2.0], [3.0, 4.0]]


def test_no_embeddings_are_no_rows() -> None:
    vectors, verdicts = decode_embeddings([], 3)
    assert (vectors.shape, verdicts.shape) == ((0, 3), (0,))
