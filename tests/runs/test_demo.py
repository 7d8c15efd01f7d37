"""The demonstration: reproducible drawings with copies and damage, and a small CLIP that names them."""

from __future__ import annotations

import io
import json
from collections import Counter
from itertools import combinations
from pathlib import Path

import numpy as np
import open_clip
import pandas as pd
import pytest
import torch
import webdataset as wds
from PIL import Image
from safetensors.torch import load_file

from cpp.demo.canvas import SIDES
from cpp.demo.clip import UNSEEN_WORD, WEIGHTS, register, train
from cpp.demo.dataset import ASSETS, DAMAGE, MODEL, RARE, SEED, Sample, counts, main, samples, write
from cpp.demo.drawing import KINDS, draw, draw_nothing
from pipelines.config.load import load
from pipelines.run import Run
from tests.support.browser import look

CONFIG = Path(__file__).parents[2] / "configs" / "demo.yaml"
N = 240
NOUNS = (ASSETS / "nouns.txt").read_text().split()


@pytest.fixture(scope="module")
def drawn() -> list[Sample]:
    return samples(N, np.random.default_rng(3))


def opened(jpeg: bytes) -> Image.Image | None:
    try:
        return Image.open(io.BytesIO(jpeg)).convert("RGB")
    except (OSError, SyntaxError):
        return None


def test_a_seed_determines_the_bytes(tmp_path: Path) -> None:
    shards = {
        name: [path.read_bytes() for path in write(tmp_path / name, 60, 25, np.random.default_rng(seed))]
        for name, seed in (("a", 7), ("b", 7), ("c", 8))
    }
    assert shards["a"] == shards["b"]
    assert not set(shards["a"]) & set(shards["c"])


def test_counts_by_hand() -> None:
    assert counts(620) == {kind: 10 if kind in RARE else 100 for kind in KINDS}


@pytest.mark.parametrize("n", [8, 9, 240, 3000])
def test_counts_add_up_and_no_kind_is_missing(n: int) -> None:
    assert sum(counts(n).values()) == n
    assert min(counts(n).values()) >= 1


def test_fewer_drawings_than_kinds_are_an_error() -> None:
    with pytest.raises(ValueError, match="n is 7, must be at least 8"):
        counts(7)


def test_a_shard_size_beyond_the_digits_of_a_key_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="shard_size is 10001"):
        write(tmp_path, 8, 10_001, np.random.default_rng(0))


def test_samples_have_the_counted_kinds_copies_and_damage(drawn: list[Sample]) -> None:
    kinds, extra = Counter(s.kind for s in drawn), N // 60 + len(DAMAGE)
    assert len(drawn) == N + extra
    assert all(0 <= kinds[kind] - count <= extra for kind, count in counts(N).items())


def test_only_the_damaged_files_cannot_be_opened(drawn: list[Sample]) -> None:
    images = [opened(s.jpeg) for s in drawn]
    assert images.count(None) == len(DAMAGE)
    assert all((s.width, s.height) == image.size for s, image in zip(drawn, images, strict=True) if image)


def test_near_duplicates_differ_in_bytes(drawn: list[Sample]) -> None:
    images = [opened(s.jpeg) for s in drawn]
    small = [np.asarray(i.resize((24, 24)), np.float64) if i else np.full((24, 24, 3), np.inf) for i in images]
    pairs = [
        (a, b)
        for a, b in combinations(range(len(drawn)), 2)
        if images[a] and images[b] and np.abs(small[a] - small[b]).mean() < 12
    ]
    assert len(pairs) == N // 60
    for a, b in pairs:
        assert drawn[a].caption == drawn[b].caption
        assert drawn[a].jpeg != drawn[b].jpeg


@pytest.mark.parametrize("kind", KINDS)
def test_drawings_of_a_kind_vary_and_captions_name_it(kind: str) -> None:
    rng = np.random.default_rng(5)
    drawings = [draw(kind, rng) for _ in range(12)]
    assert all(kind in caption.split() for _, caption in drawings)
    assert len({caption for _, caption in drawings}) > 6
    assert len({image.tobytes() for image, _ in drawings}) == 12
    assert all(image.mode == "RGB" and SIDES[0] <= side <= SIDES[1] for image, _ in drawings for side in image.size)


def test_webdataset_reads_the_tars_with_img2datasets_fields(tmp_path: Path) -> None:
    paths = write(tmp_path, 60, 25, np.random.default_rng(7))
    assert [path.name for path in paths] == ["00000.tar", "00001.tar", "00002.tar"]
    rows = list(wds.WebDataset([str(path) for path in paths], shardshuffle=False, empty_check=False))
    assert len(rows) == 60 + 1 + len(DAMAGE) == len({row["__key__"] for row in rows})
    for row in rows:
        metadata = json.loads(row["json"])
        assert {"jpg", "txt", "json"} <= row.keys()
        assert metadata["key"] == row["__key__"]
        assert metadata["status"] == "success"
        assert metadata["caption"] == row["txt"].decode()
        assert metadata["class"] in KINDS


def test_the_caption_of_an_empty_scene_has_the_given_word() -> None:
    image, caption = draw_nothing("zebra", np.random.default_rng(5))
    assert SIDES[0] <= min(image.size) <= max(image.size) <= SIDES[1]
    assert "zebra" in caption.split()


def test_the_demonstration_folder_has_drawings_model_and_words(tmp_path: Path) -> None:
    main(tmp_path, n=8, shard_size=10)
    assert sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*.*")) == [
        "images/00000.tar",
        "images/00001.tar",
        "model/cpp-demo.json",
        "model/cpp-demo.safetensors",
        "words.txt",
    ]
    assert (tmp_path / "model/cpp-demo.safetensors").read_bytes() == WEIGHTS.read_bytes()
    assert (tmp_path / "words.txt").read_text().split() == sorted({*KINDS, *NOUNS})


@pytest.fixture(scope="module")
def demonstration(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of `make demo`."""
    data, root = tmp_path_factory.mktemp("drawings"), tmp_path_factory.mktemp("demo")
    main(data)
    assert Run(load(CONFIG, [f"data={data}", f"root={root}", "resources.workers=1"]), local=True).go()
    return root


@pytest.mark.slow
def test_every_kind_becomes_a_cluster_with_its_name(demonstration: Path) -> None:
    rows = pd.read_parquet(demonstration / "assignments")
    clusters = pd.read_parquet(demonstration / "clusters.parquet").query("main")
    rows["name"] = rows["cluster"].map(clusters.set_index("cluster")["name"])
    together = rows.groupby(["cluster", "name", "class"]).size().reset_index(name="n")
    sizes, kinds = rows["cluster"].value_counts(), rows["class"].value_counts()
    most = (2 * together["n"] > together["cluster"].map(sizes)) & (2 * together["n"] > together["class"].map(kinds))
    right = together[most & (together["name"] == together["class"])]
    assert set(right["class"]) == set(KINDS)


@pytest.mark.slow
@pytest.mark.browser
def test_the_page_opens_in_a_browser(demonstration: Path) -> None:
    look(demonstration, "demo", 8)
    assert {path.name for path in (demonstration / "plots").iterdir()} == {
        "contact-sheet.png", "map.svg", "sizes.svg",
    }  # fmt: skip


def zero_shot(pretrained: str | None) -> Counter[str]:
    """How many of ten new drawings of each kind are nearest to their kind among the kinds and other nouns."""
    register()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model, _, preprocess = open_clip.create_model_and_transforms(MODEL, pretrained=pretrained)
    rng, tokenizer, words = np.random.default_rng(SEED + 5), open_clip.get_tokenizer(MODEL), [*KINDS, *NOUNS]
    right: Counter[str] = Counter()
    with torch.no_grad():
        text = model.eval().encode_text(tokenizer([f"a drawing of a {word}" for word in words]), normalize=True)
        for kind in KINDS:
            pixels = torch.stack([preprocess(draw(kind, rng)[0]) for _ in range(10)])
            named = (model.encode_image(pixels, normalize=True) @ text.T).argmax(1).tolist()
            right[kind] = sum(words[i] == kind for i in named)
    return right


def test_the_shipped_weights_name_new_drawings() -> None:
    assert zero_shot(str(WEIGHTS)).total() >= 0.95 * 10 * len(KINDS)


def test_untrained_weights_do_not_name_new_drawings() -> None:
    assert zero_shot(None).total() < 0.3 * 10 * len(KINDS)


def test_the_shipped_weights_have_less_than_8_mib() -> None:
    assert WEIGHTS.stat().st_size < 8 * 2**20


@pytest.fixture(scope="module")
def trained() -> list[tuple[dict[str, torch.Tensor], list[float]]]:
    runs = []
    for _ in range(2):
        losses: list[float] = []
        weights = train(2, 2, 1, 1e-3, 11, lambda _, loss, to=losses: to.append(loss))  # type: ignore[misc]
        runs.append((weights, losses))
    return runs


def test_training_is_seeded(trained: list[tuple[dict[str, torch.Tensor], list[float]]]) -> None:
    (first, losses), (second, again) = trained
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert losses == again
    assert len(losses) == 2


def test_words_outside_the_training_texts_have_zero_embeddings(
    trained: list[tuple[dict[str, torch.Tensor], list[float]]],
) -> None:
    register()
    words = open_clip.get_tokenizer(MODEL)(f"tree {UNSEEN_WORD} elephant")[0, 1:4]
    for weights in (trained[0][0], load_file(WEIGHTS)):
        nonzero = weights["token_embedding.weight"][words].any(1)
        assert nonzero.tolist() == [True, False, False]


def test_shipped_and_new_weights_have_equal_names_shapes_and_dtypes(
    trained: list[tuple[dict[str, torch.Tensor], list[float]]],
) -> None:
    assert {k: (v.shape, v.dtype) for k, v in load_file(WEIGHTS).items()} == {
        k: (v.shape, v.dtype) for k, v in trained[0][0].items()
    }
