"""Words of a run: from files, from packages and from captions; what is excluded, kept, and said where it cannot be."""

import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from numpy.typing import NDArray

from cpp.encoding import encoder
from cpp.files.tables import matrix
from cpp.naming import caption_phrases, word_lists, wordnet
from cpp.naming.vocabulary import Vocabulary
from pipelines.config.errors import ConfigError
from pipelines.config.load import load
from pipelines.engine.stage import Context
from pipelines.graph import plan
from pipelines.run import Run
from pipelines.stages.artifacts import read_captions
from tests.support.datasets import Dataset
from tests.support.runs import computed

SAID = ["a red balloon", "the green frog", "a blue whale", "the yellow banana"]


def caption(pictures: Dataset, captions: Sequence[object]) -> None:
    """Put `captions[label]` in the JSON of every picture, where it is not None."""
    for path in (pictures.folder / "data/images").iterdir():
        with tarfile.open(path) as tar:
            members = [(info, (tar.extractfile(info) or io.BytesIO()).read()) for info in tar]
        with tarfile.open(path, "w") as tar:
            for info, data in members:
                if info.name.endswith(".json"):
                    about = json.loads(data)
                    if captions[about["label"]] is not None:
                        about["said"] = captions[about["label"]]
                    payload = json.dumps(about).encode()
                else:
                    payload = data
                info.size = len(payload)
                tar.addfile(info, io.BytesIO(payload))


def run(pictures: Dataset, *overrides: str, names: Sequence[str] = ()) -> Run:
    done = Run(load(pictures.config, overrides), names, local=True)
    done.go()
    return done


def words_of(root: Path) -> list[str]:
    found: list[str] = pq.read_table(root / "words.parquet")["word"].to_pylist()
    return found


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The words that the text tower was asked for."""
    asked: list[str] = []
    words = encoder.Encoder.words

    def counting(self: encoder.Encoder, some: Sequence[str], *args: object) -> NDArray[np.float16]:
        asked.extend(some)
        return words(self, some, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(encoder.Encoder, "words", counting)
    return asked


@pytest.mark.parametrize("said", [SAID, [[text, f"{text} again"] for text in SAID]], ids=["text", "list"])
def test_captions_are_mined_vote_and_are_a_vocabulary(pictures: Dataset, said: Sequence[object]) -> None:
    caption(pictures, said)
    overrides = ["label.captions=said", "label.vocabulary=[captions]", "partition.layers=[2]", "label.min_confidence=0"]
    done = run(pictures, *overrides)
    assert done.ok
    nouns = {"red balloon", "green frog", "blue whale", "yellow banana"}
    assert set(words_of(pictures.root)) == nouns
    clusters = pd.read_parquet(pictures.root / "clusters.parquet")
    assert set(clusters["guess"]) <= nouns
    main = clusters[clusters["main"]]["captions"]
    assert sorted(word["word"] for words in main for word in words) == sorted(nouns)
    paths = {
        "mined": [str(pictures.root / "mined.parquet")],
        "captions": [str(path) for path in sorted((pictures.root / "captions").iterdir())],
    }
    names, counts = read_captions(Context(paths, 1, "cpu", 8, 8, 1), 4)
    apart = caption_phrases.distinctive(counts, names, 5)
    assert sorted(len(found) for found in apart) == [1, 1, 1, 1]  # the four colours are the four clusters
    assert {found[0][0] for found in apart} == nouns
    assert counts.sum() == 160
    everything = pd.read_parquet(pictures.root / "phrases").groupby("phrase")["images"].sum()
    assert everything[["red balloon", "balloon", "red"]].tolist() == [40, 40, 40]


def test_by_default_the_words_are_for_photographs_and_from_captions(
    pictures: Dataset, encoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(word_lists, "PARTS", {"photographs": ("scenes", "actions")})  # fewer, for speed
    caption(pictures, [f"{text} of zorblax" for text in SAID])
    config = yaml.safe_load(pictures.config.read_text())
    del config["label"]["vocabulary"]
    pictures.config.write_text(yaml.safe_dump(config))
    assert run(pictures, "label.captions=said", names=["words"]).ok
    words = words_of(pictures.root)
    assert {"coral reef", "playing football", "red balloon", "zorblax"} <= {*words}
    assert sorted(encoded) == sorted(words)
    encoded.clear()
    assert run(pictures, names=["words"]).ok
    assert encoded == []  # all are in the cache
    assert "coral reef" in words_of(pictures.root)
    assert "zorblax" not in words_of(pictures.root)


def test_captions_tell_clusters_apart_without_a_text_tower(dataset: Dataset) -> None:
    for path in (dataset.folder / "data/metadata").iterdir():
        table = pq.read_table(path)
        texts = [SAID[label] for label in table["label"].to_pylist()]
        pq.write_table(table.append_column("said", pa.array(texts).dictionary_encode()), path)
    done = run(dataset, "label.captions=said")
    assert done.ok
    assert list(done.outcomes)[8:11] == ["phrases", "mine", "captions"]
    assert pd.read_parquet(dataset.root / "captions")["images"].sum() == 160


def test_shards_and_images_without_captions_are_no_error(pictures: Dataset) -> None:
    caption(pictures, [*SAID[:3], None])
    (pictures.folder / "data/images/00001.tar").rename(pictures.folder / "kept.tar")
    with (
        tarfile.open(pictures.folder / "kept.tar") as old,
        tarfile.open(pictures.folder / "data/images/00001.tar", "w") as new,
    ):
        for info in old:
            if info.name.endswith(".jpg"):
                new.addfile(info, old.extractfile(info))
    assert run(pictures, "label.captions=said", "evaluate=null").ok
    assert set(pq.read_table(pictures.root / "mined.parquet")["phrase"].to_pylist()) == {
        "red balloon",
        "green frog",
        "blue whale",
    }


def test_a_new_word_is_the_only_one_that_is_encoded(pictures: Dataset, encoded: list[str]) -> None:
    lines = [f"thing {i}" for i in range(150)]
    (pictures.folder / "words.txt").write_text("\n".join(lines))
    assert run(pictures, names=["words"]).ok
    assert encoded == lines
    first = matrix(pq.read_table(pictures.root / "words.parquet")["embedding"])
    (pictures.folder / "words.txt").write_text("\n".join(["new", *lines[::-1]]))
    assert run(pictures, names=["words"]).ok
    assert encoded == [*lines, "new"]
    warm = matrix(pq.read_table(pictures.root / "words.parquet")["embedding"])
    assert np.array_equal(warm[1:], first[::-1])
    elsewhere = run(pictures, f"root={pictures.folder / 'cold'}", names=["words"])
    cold = matrix(pq.read_table(elsewhere.store.root / "words.parquet")["embedding"])
    assert np.array_equal(warm, cold)  # what was kept changes no result, to the last bit


@pytest.mark.parametrize("override", ["label.templates=['no photo of a {}.']", "encode.precision=bf16", "model"])
def test_another_space_takes_nothing_from_this_one(
    pictures: Dataset, model: Path, encoded: list[str], override: str
) -> None:
    (pictures.folder / "words.txt").write_text("cat\ndog\n")
    other = f"encode={{model: cpp-small, pretrained: {model / 'small.safetensors'}, configs: {model}}}"
    assert run(pictures, names=["words"]).ok
    assert run(pictures, other if override == "model" else override, names=["words"]).ok
    assert encoded == ["cat", "dog"] * 2


def test_lists_of_packages_are_vocabularies(pictures: Dataset) -> None:
    (pictures.folder / "words.txt").write_text("toothbrush\n a_new\u202eword\nToothbrush\n")
    assert run(pictures, "label.vocabulary=[coco, words.txt, imagenet1k]", names=["words"]).ok
    words = words_of(pictures.root)
    assert words[:4] == [
        "toothbrush",
        "a new word",
        "Toothbrush",
        "person",
    ]  # files first, then in the order of the key
    assert "tench" in words[4:]
    assert len(words) == len(set(words)) > 1040


def test_excluded_words_name_no_cluster(pictures: Dataset) -> None:
    (pictures.folder / "words.txt").write_text("cat\nlaptop\nrose hedgehog\nteapot\ncloud\n")
    (pictures.folder / "barred.txt").write_text("Laptop computers\n\n")
    done = run(pictures, "label.exclude=[cats, barred.txt, Clouds]", "label.top=9", "label.min_confidence=0")
    assert done.ok
    clusters = pd.read_parquet(pictures.root / "clusters.parquet")
    assert {entry["word"] for top in clusters["top"] for entry in top} == {"rose hedgehog", "teapot"}
    (pictures.folder / "barred.txt").write_text("teapot\n")
    again = run(pictures, "label.exclude=[cats, barred.txt, Clouds]", "label.top=9", "label.min_confidence=0")
    assert computed(again) == {"vote": 3, "label": 1, "labels": 3, "report": 1, "plots": 1, "map_page": 1}
    none = run(pictures, "label.exclude=[cat, laptop, rose hedgehog, teapot, cloud]")
    assert "no words, because label.exclude removes all of them" in str(none.outcomes["vote"].failed[0].error)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("label.vocabulary=[captions]", "label.vocabulary has 'captions' and label.captions is null: set"),
        ("label.vocabulary=[imagenet21k]", "imagenet21k/names.txt does not exist .*may also be one of photographs, "),
        ("label.vocabulary=[./coco]", "coco/names.txt does not exist"),
        ("label.exclude=[gone.txt]", "label.exclude: the file .*gone.txt does not exist"),
    ],
)
def test_vocabularies_that_cannot_be_had_are_named(pictures: Dataset, override: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        plan(load(pictures.config, [override]))


@pytest.mark.parametrize("word", ["photographs", "scenes", "wordnet", "coco", "imagenet1k", "captions"])
def test_words_without_vectors_need_a_text_tower(dataset: Dataset, word: str) -> None:
    with pytest.raises(
        ConfigError, match=f"label.vocabulary: {word} is a list of words, which only a run with `encode`"
    ):
        plan(load(dataset.config, [f"label.vocabulary=[words, {word}]", "label.captions=url"]))


def test_columns_that_are_no_captions_are_named(pictures: Dataset) -> None:
    done = run(pictures, "label.captions=label")
    errors = [result.error or "" for outcome in done.outcomes.values() for result in outcome.failed]
    message = "label.captions: the metadata column 'label' holds int64, it must be text or lists of text"
    assert any(message in error for error in errors)
    assert done.outcomes["label"].waits_for is None or not done.ok


def test_a_file_of_words_that_is_no_text_is_named(pictures: Dataset) -> None:
    (pictures.folder / "words.txt").write_bytes(b"caf\xe9\n")
    assert "words.txt is not UTF-8 text" in str(run(pictures, names=["words"]).outcomes["words"].failed[0].error)
    (pictures.folder / "words.txt").write_text(" \n\u200b\n")
    assert "hold no words: add some" in str(run(pictures, names=["words"]).outcomes["words"].failed[0].error)


def test_a_hundred_thousand_words_of_all_scripts_are_a_vocabulary() -> None:
    many = ["काला", "कला", "काल", "猫", "犬", "кошка", "собака", "قطة", "แมว", "ねこ", "γάτα"]
    nouns = wordnet.nouns()
    words = [*many, *(f"{noun} {i}" for i in range(5) for noun in nouns)][:100_000]
    vocabulary = Vocabulary.of(words, np.random.default_rng(0).standard_normal((len(words), 4), np.float32))
    assert vocabulary.words[: len(many)] == tuple(many)  # vowel signs tell words apart
    assert len(vocabulary) > 99_000
