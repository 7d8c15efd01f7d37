"""Cached text vectors are read from the folder; only new words are encoded."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from cpp.encoding import text_cache
from cpp.encoding.text_cache import cached_vectors


class Counting:
    """An encoder to two dimensions that records its words."""

    def __init__(self) -> None:
        self.words: list[str] = []

    def __call__(self, words: Sequence[str]) -> NDArray[np.float16]:
        self.words += words
        return np.array([[len(word), ord(word[0])] for word in words], np.float16)


def test_only_new_words_are_encoded(tmp_path: Path) -> None:
    encode = Counting()
    words = [f"{chr(97 + i % 26)}{i}" for i in range(100)]
    first = cached_vectors(words, encode, tmp_path / "space")
    assert encode.words == words
    again = cached_vectors([*words[::-1], "new"], encode, tmp_path / "space")
    assert encode.words == [*words, "new"]
    assert np.array_equal(again, [*first[::-1], [3, ord("n")]])
    assert first.dtype == again.dtype == np.float16
    assert np.array_equal(cached_vectors(words[:3], encode, tmp_path / "space"), first[:3])


def test_an_interrupted_run_keeps_complete_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_cache, "CHUNK", 10)
    encode = Counting()

    def stops(words: Sequence[str]) -> NDArray[np.float16]:
        if "w25" in words:
            raise KeyboardInterrupt
        return encode(words)

    words = [f"w{i}" for i in range(30)]
    with pytest.raises(KeyboardInterrupt):
        cached_vectors(words, stops, tmp_path)
    assert encode.words == words[:20]
    cached_vectors(words, encode, tmp_path)
    assert encode.words == words


def test_words_of_a_damaged_file_are_encoded_again(tmp_path: Path) -> None:
    encode = Counting()
    cached_vectors(["cat"], encode, tmp_path)
    cached_vectors(["cat", "dog"], encode, tmp_path)
    (file,) = (path for path in tmp_path.iterdir() if len(path.read_bytes()) and b"cat" in path.read_bytes())
    file.write_bytes(file.read_bytes()[:40])
    (tmp_path / "half.12.new").write_bytes(b"what a killed run left")
    assert np.array_equal(cached_vectors(["cat", "dog"], encode, tmp_path), Counting()(["cat", "dog"]))
    assert encode.words == ["cat", "dog", "cat"]


def test_nothing_is_cached_without_a_folder() -> None:
    encode = Counting()
    for _ in range(2):
        cached_vectors(["cat"], encode, None)
    assert encode.words == ["cat", "cat"]
