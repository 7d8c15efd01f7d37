"""The namer: its question, names in its answers, and the check of names against the members by hand."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from cpp.naming import namer, reply_cache
from cpp.naming.chat import Reply
from cpp.naming.namer import Evidence
from cpp.naming.vocabulary import Vocabulary
from cpp.naming.votes import ClusterSums

OWN, OTHER = 1 - 0.65 / 3, -0.65 / 3  # three members of three directions, less 0.65 of their mean
EVIDENCE = Evidence(1234, ["sports car", "taxi"], ["red", "fast"], ["pickup", "van"])


def test_a_question_has_the_evidence() -> None:
    question = namer.prompt(EVIDENCE, 2)
    for text in ("1,234 images", "sports car, taxi", "red, fast", "pickup, van", "2 typical images"):
        assert text in question


def test_a_question_leaves_out_what_is_unknown() -> None:
    question = namer.prompt(EVIDENCE._replace(captions=[], nearest=[]), 0)
    for text in ("captions", "similar", "attached"):
        assert text not in question


def test_messages_without_pictures_are_text_alone() -> None:
    assert namer.messages("What?", [])[-1] == {"role": "user", "content": "What?"}


def test_messages_carry_pictures_as_data_addresses() -> None:
    text, image = namer.messages("What?", [b"\xff\xd8"])[-1]["content"]
    assert text == {"type": "text", "text": "What?"}
    assert image == {"type": "image_url", "image_url": {"url": "data:image/jpeg;base64,/9g="}}


@pytest.mark.parametrize(
    ("answer", "name"),
    [
        ('{"name": "fishing boat"}', "fishing boat"),
        ('```json\n{"name": " Fishing_boat. "}\n```', "Fishing boat"),
        ('I think {so}. {"name": "raft"} or better {"name": "boat", "why": {"a": 1}} it is', "boat"),
        ('{"name": "boat"} {"other": 1}', "boat"),
        ('{"name": "two\\nlines\\u0007"}', "two lines"),
        ('{"name": "<b>boat</b>"}', "<b>boat</b>"),  # the page escapes it
        ("fishing boat", None),
        ("", None),
        (None, None),
        ('{"name": ""}', None),
        ('{"name": 3}', None),
        ('{"name": ["boat"]}', None),
        ('{"title": "boat"}', None),
        ('{"name": "boat"', None),
        ('{"name": "' + "a" * 101 + '"}', None),
        ('{"a":' * 5000, None),
    ],
)
def test_the_name_in_an_answer(answer: str | None, name: str | None) -> None:
    assert namer.parse(answer) == name


def test_mean_members_and_nearest_clusters_by_hand() -> None:
    sums = ClusterSums(np.array([2, 0, 1, 1]), np.array([[2.0, 0], [0, 0], [0, 1], [0.6, 0.8]]))
    np.testing.assert_allclose(namer.mean_members(sums, 0.0), [[1, 0], [0, 0], [0, 1], [0.6, 0.8]])
    np.testing.assert_allclose(namer.mean_members(sums, 0.6)[0], [1 - 0.6 * 0.65, -0.6 * 0.45])
    assert [order.tolist() for order in namer.nearest(sums, 2)][2] == [3, 0]
    assert all(1 not in order for order in namer.nearest(sums, 3))  # an empty cluster is like no other


def sums() -> ClusterSums:
    """Three clusters in the directions of three words."""
    return ClusterSums(np.array([1, 1, 1]), np.eye(4)[:3])


def vocabulary() -> Vocabulary:
    words = ["laptop", "teapot", "cloud", "sea"]
    return Vocabulary.of(words, np.eye(4, dtype=np.float32) + 0.2)


def direction(*values: float) -> Tensor:
    """The centred vector of a word, float32."""
    return normalize(torch.tensor(values, dtype=torch.float32), dim=0)


def test_best_words_by_hand() -> None:
    """The centred mean member of cluster 0 is (OWN, OTHER, OTHER, 0), the centred word (3, -1, -1, -1) / 12^0.5."""
    best = list(namer.best_words(sums(), vocabulary(), 2))
    assert [int(order[0]) for order, _ in best] == [0, 1, 2]
    assert [int(order[1]) for order, _ in best] == [3, 3, 3]
    assert [value for _, value in best] == pytest.approx([(3 * OWN - 2 * OTHER) / 12**0.5] * 3)


def test_a_new_word_must_fit_better_than_every_word() -> None:
    vectors = {"gaming laptop": direction(OWN, OTHER, OTHER, 0), "jug": direction(1, 1, 0, 0)}
    verdicts = namer.check({0: "gaming laptop", 1: "jug"}, vectors, sums(), vocabulary(), [])
    assert set(verdicts) == {0, 1}
    rival = pytest.approx((3 * OWN - 2 * OTHER) / 12**0.5)
    better = "it fits the images better than laptop", pytest.approx((OWN**2 + 2 * OTHER**2) ** 0.5), "laptop", rival
    assert verdicts[0] == (True, *better)
    assert verdicts[1] == (
        False,
        "teapot fits the images better",
        pytest.approx((OWN + OTHER) / 2**0.5),
        "teapot",
        rival,
    )


def test_the_only_word_of_a_vocabulary_is_not_centred() -> None:
    single = Vocabulary.of(["laptop"], np.eye(4)[:1])
    assert [value for _, value in namer.best_words(sums(), single, 1)] == pytest.approx([OWN, OTHER, OTHER])


def test_a_word_of_the_vocabulary_must_be_the_best() -> None:
    verdicts = namer.check({0: "laptop computers", 1: "cloud"}, {}, sums(), vocabulary(), [])
    assert verdicts[0].accepted  # a synonym
    assert not verdicts[1].accepted
    assert verdicts[1].reason == "teapot fits the images better"


def test_without_a_text_vector_a_new_word_cannot_be_checked() -> None:
    verdict = namer.check({0: "gaming laptop"}, {}, sums(), vocabulary(), [])[0]
    assert not verdict.accepted
    assert "no text tower" in verdict.reason


def test_an_excluded_word_is_refused() -> None:
    verdicts = namer.check(
        {0: "Notebooks"}, {"Notebooks": direction(OWN, OTHER, OTHER, 0)}, sums(), vocabulary(), ["notebook"]
    )
    assert verdicts[0][:2] == (False, "label.exclude removes this word")


REQUEST = reply_cache.request_hash("http://a/v1", "small", namer.messages("What?", [b"x"]))


def test_a_kept_reply_is_read_again(tmp_path: Path) -> None:
    reply = Reply("dé", 0.5, None)
    assert reply_cache.read(tmp_path / "new", REQUEST) is None
    reply_cache.write(tmp_path / "new", REQUEST, "What?", reply)
    assert reply_cache.read(tmp_path / "new", REQUEST) == reply
    (file,) = (tmp_path / "new").iterdir()
    assert json.loads(file.read_text())["question"] == "What?"


@pytest.mark.parametrize("text", ["", "{}", '{"reply": 1}', '{"reply": {"answer": "a"}}'])
def test_a_damaged_reply_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / f"{REQUEST}.json").write_text(text)
    assert reply_cache.read(tmp_path, REQUEST) is None


def test_a_request_is_another_with_another_model_question_or_picture() -> None:
    other = [("http://b/v1", "small", "What?", b"x"), ("http://a/v1", "big", "What?", b"x")]
    other += [("http://a/v1", "small", "Who?", b"x"), ("http://a/v1", "small", "What?", b"y")]
    hashes = {reply_cache.request_hash(url, model, namer.messages(text, [jpeg])) for url, model, text, jpeg in other}
    assert len(hashes | {REQUEST}) == 5


def test_without_a_folder_nothing_is_kept() -> None:
    reply_cache.write(None, REQUEST, "What?", Reply("a", 0.0, 1))
    assert reply_cache.read(None, REQUEST) is None
