"""Phrases are counted within limits, and their counts give the phrases that distinguish a cluster."""

import math

import numpy as np
import pyarrow as pa
import pytest

from cpp.naming import caption_phrases
from cpp.naming.caption_phrases import SEEN, count, distinctive, merge, mine, tally, total


def seen(*rows: tuple[str, int, int, int]) -> pa.Table:
    return pa.table(dict(zip(SEEN.names, map(list, zip(*rows, strict=True)), strict=True)), schema=SEEN)


def counted(*captions: str) -> dict[str, tuple[int, int, int]]:
    return {row["phrase"]: (row["images"], row["closed"], row["alone"]) for row in count([captions]).to_pylist()}


def test_phrases_by_hand() -> None:
    # "a" opens, "on" closes; "sleeping" ends the run but "black dog sleeping" is the noun phrase and more
    assert counted("A black dog on the sofa.") == {
        "black": (1, 0, 0), "black dog": (1, 1, 1), "dog": (1, 1, 0), "sofa": (1, 1, 1),
    }  # fmt: skip
    assert counted("red and blue")["red"] == (1, 0, 0)  # "red and blue shirts": the phrase may go on
    assert set(counted("one two-seat old red cars")) == {
        "two-seat", "two-seat old", "two-seat old red", "old", "old red", "old red cars", "red", "red cars", "cars",
    }  # fmt: skip


def test_an_image_counts_once_for_a_phrase() -> None:
    assert counted("dog, dog! a dog", "dog")["dog"] == (1, 1, 1)
    two = count([["a dog"], ["the dog", "dog"], []]).to_pylist()
    assert two == [{"phrase": "dog", "images": 2, "closed": 2, "alone": 2}]


def test_markup_addresses_and_control_characters_are_ignored() -> None:
    hostile = "<b class='x'>Dog</b>&amp;cat\x00\x1b[31m https://example.org/ship.jpg?a=tree www.example.com/car"
    assert set(counted(hostile, "\u202e42 &lt;i&gt;")) == {"dog", "cat", "31m"}
    assert (
        counted(
            "", "\x00", "<" * 5000, "{}{0}%s", "\ud800".encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        )
        == {}
    )


def test_length_and_number_of_captions_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(counted("dog " + "! " * caption_phrases.CHARACTERS + "cat")) == {"dog"}
    assert set(counted(*["dog"] * caption_phrases.CAPTIONS, "cat")) == {"dog"}
    assert len(count([["ﷺ" * 10**6]])) <= caption_phrases.CHARACTERS  # one character that NFKC expands to 18


def test_memory_and_results_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = list[int]()
    most = caption_phrases._most

    def watched(images: dict[str, int], n: int) -> list[str]:
        sizes.append(len(images))
        return most(images, n)

    monkeypatch.setattr(caption_phrases, "_most", watched)
    images = [["dog", f"w{chr(97 + i // 26 % 26)}{chr(97 + i % 26)}{chr(97 + i // 676)}"] for i in range(2000)]
    counts = count(images, held=100, kept=10)
    assert len(sizes) > 10
    assert max(sizes) <= 102  # an image adds two
    assert len(counts) == 10
    assert counts.slice(0, 1).to_pylist() == [{"phrase": "dog", "images": 2000, "closed": 2000, "alone": 0}]


def test_counts_of_shards_add_up_in_bounded_memory() -> None:
    shards = [[["a dog on grass"], ["a cat"]], [["the dog"], ["dogs"]], [["a cat"], ["the cat"]]]
    whole = count([image for shard in shards for image in shard])
    assert total(map(count, shards)) == whole
    assert whole.slice(0, 2)["phrase"].to_pylist() == ["cat", "dog"]  # 3 images, 2
    many = (seen(("dog", 9, 1, 1), *((f"w{shard}x{i}", 1, 0, 0) for i in range(50))) for shard in range(30))
    bounded = total(many, held=60)
    assert len(bounded) <= 30 + 51
    assert bounded.slice(0, 1).to_pylist() == [{"phrase": "dog", "images": 270, "closed": 30, "alone": 30}]


def test_noun_like_phrases_by_hand() -> None:
    mined = mine(
        seen(
            ("gizmo", 100, 50, 20),  # "the gizmo is": a noun, though WordNet has none such
            ("colourful", 100, 2, 2),  # an adjective
            ("walking", 100, 90, 1),  # a verb, at the end of runs but never after an article
            ("shirt", 100, 90, 2),  # WordNet's, mostly with an adjective
            ("white", 100, 9, 3),  # WordNet's ("a white"), but seldom at the end
            ("wearing", 100, 90, 2),  # "wear" is WordNet's, this form of it is not
            ("white shirt", 40, 35, 30),
            ("wearing shirt", 40, 35, 0),  # never after an article
            ("man wearing shirt", 30, 30, 20),  # "wearing shirt" is no phrase
            ("dogs", 50, 20, 10),
            ("dogs run", 40, 40, 20),  # "run" is WordNet's, but not sure enough to follow a plural
            ("run", 60, 50, 1),
            ("rare", 4, 4, 4),
            ("собака", 30, 0, 0),  # no grammar: by frequency
        )
    )
    assert mined["phrase"].to_pylist() == ["gizmo", "shirt", "run", "dogs", "white shirt", "собака"]


def test_a_phrase_that_only_occurs_in_a_longer_one_is_dropped() -> None:
    mined = mine(seen(("new york city", 50, 40, 30), ("york city", 51, 40, 30), ("city", 90, 50, 40)), rare=1)
    assert mined["phrase"].to_pylist() == ["city", "new york city"]


def test_forms_of_a_word_are_merged_under_the_most_frequent() -> None:
    mined = mine(seen(("cats", 20, 20, 9), ("dog", 12, 9, 9), ("dogs", 10, 9, 9)), rare=1)
    assert mined.to_pylist() == [
        {"phrase": "dog", "images": 22, "forms": ["dog", "dogs"]},
        {"phrase": "cats", "images": 20, "forms": ["cats"]},
    ]
    assert mine(seen(("cats", 20, 20, 9), ("dog", 12, 9, 9)), most=1)["phrase"].to_pylist() == ["cats"]


def test_other_scripts_are_split_into_words() -> None:
    # vowel signs are part of a word; Han has no spaces, so its phrases are of characters
    assert set(counted("एक काला कुत्ता")) >= {"काला", "कुत्ता", "काला कुत्ता"}
    assert set(counted("黑狗")) == {"黑", "狗", "黑 狗"}
    assert mine(count([["黑狗"]] * 9))["phrase"].to_pylist() == ["黑狗"]
    assert set(counted("قطة سوداء، كلب")) == {"قطة", "سوداء", "قطة سوداء", "كلب"}
    assert set(counted("Ｄｏｇ Straße")) == {"dog", "straße", "dog straße"}


MINED = pa.table(
    {"phrase": ["dog", "cat", "red car"], "images": [9, 5, 5], "forms": [["dog", "dogs"], ["cat"], ["red car"]]},
    schema=caption_phrases.MINED,
)


def test_counts_of_clusters_add_over_shards_and_merge() -> None:
    images = [["a dog", "two dogs"], ["a red car"], [], ["cat and dogs"], ["the cat", "unknown"]]
    cluster = np.array([0, 2, 2, 0, 1], np.int32)
    whole = tally(images, cluster, MINED, 4)
    assert whole.toarray().tolist() == [[2, 1, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0]]
    parts = tally(images[:2], cluster[:2], MINED, 4) + tally(images[2:], cluster[2:], MINED, 4)
    assert (parts != whole).nnz == 0
    assert merge(whole, np.array([1, 0, 1, 2])).toarray().tolist() == [[0, 1, 0], [2, 1, 1], [0, 0, 0]]


def test_class_based_tf_idf_by_hand() -> None:
    # 12 counts in 3 clusters: A = 4. dog 8, cat 2, red car 2
    counts = tally([["dog"]] * 8 + [["cat"]] * 2 + [["red car"]] * 2, np.array([0] * 6 + [1] * 6), MINED, 3)
    first, second, empty = distinctive(counts, ["dog", "cat", "red car"], top=3)
    assert first == [("dog", pytest.approx(math.log(1.5)))]  # all of its 6 counts, ln(1 + 4 / 8)
    # a third each: ln 3 for cat and car, which are in no other cluster; a third of dog is less than its share of all
    assert second == [("cat", pytest.approx(math.log(3) / 3)), ("red car", pytest.approx(math.log(3) / 3))]
    assert empty == []
    assert distinctive(counts, ["dog", "cat", "red car"], top=1)[1] == second[:1]  # of equal scores the first
    assert distinctive(merge(counts, np.zeros(3, int)), ["dog", "cat", "red car"], top=1)[0][0][0] == "dog"
