"""The whole pipeline on real photographs with their real CLIP vectors, as the config has it."""

import json
from pathlib import Path

import pandas as pd
import pytest
import webdataset
from torchvision.datasets import ImageFolder

from cpp.export.format import Format
from cpp.sources.shards import read_images
from pipelines.commands.export import go
from pipelines.commands.export_plan import Wanted
from pipelines.config.load import load
from pipelines.run import Run
from tests.support.browser import look

pytestmark = pytest.mark.slow

CONFIG = Path(__file__).parents[2] / "configs" / "caltech101.yaml"
ALONE = "resources.workers=1"  # threads that wait for each other are slow where the second core is busy


@pytest.fixture(scope="module")
def accepted(real_data: Path) -> Path:
    """The names that a person accepts for each class; the file is beside the folder of real data, if it exists."""
    return real_data.parent / "caltech101-accepted-names.json"


@pytest.fixture(scope="module")
def root(real_data: Path, accepted: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("caltech")
    lists = [f"evaluate.accepted={accepted}"] if accepted.exists() else []
    assert Run(load(CONFIG, [f"data={real_data}", f"root={root}", ALONE, *lists]), local=True).go()
    return root


def test_every_photograph_is_in_a_cluster(root: Path) -> None:
    totals = json.loads((root / "run.json").read_text())["totals"]
    assert totals == {"images": 4114, "rejected": 0, "clustered": 4114}
    assert len(pd.read_parquet(root / "assignments")) == 4114


def test_clusters_are_better_than_kmeans_on_the_raw_features(root: Path) -> None:
    ours, baseline = json.loads((root / "scores.json").read_text())["methods"]
    assert ours["acc"] > baseline["acc"] + 0.1
    assert ours["ari"] > baseline["ari"] + 0.2
    assert ours["nmi"] > 0.91


def test_large_clusters_of_one_class_carry_a_name_that_fits(root: Path) -> None:
    rows = pd.read_parquet(root / "assignments")
    clusters = pd.read_parquet(root / "clusters.parquet").query("main").set_index("cluster")
    names = clusters["top"].map(lambda top: top[0]["word"])  # the guess, whether it is sure enough or not
    fitting = {
        "airplane": {"airliner", "airplane", "plane", "jet plane"},
        "motorbike": {"motorcycle", "dirt bike", "moped", "motor scooter"},
        "leopard": {"leopard", "jaguar", "cheetah"},
        "sunflower": {"sunflower"},
        "trilobite": {"trilobite"},
        "grand_piano": {"grand piano", "piano"},
    }
    for kind, words in fitting.items():
        members = rows[rows["class"] == kind]
        assert len(members) > 0, f"no class {kind}; there are {sorted(rows['class'].unique())}"
        assert names[members["cluster"].mode()[0]] in words


def test_names_that_a_person_accepts(root: Path, accepted: Path) -> None:
    if not accepted.exists():
        pytest.skip(f"{accepted.name} is not beside the folder of CPP_TEST_DATA")
    scores = json.loads((root / "name_scores.json").read_text())
    assert scores["classes_with_accepted_names"] == scores["classes"] == 100
    ours, without = scores["clusters"]
    assert ours["right_guess"] > 0.75
    assert ours["coverage"] > 0.8
    assert ours["right_of_covered"] > 0.92
    assert ours["right_or_rightly_silent"] > 0.9
    assert ours["calibration_error"] < 0.1
    assert without["wrong_names"] < 0.15


def test_the_page_holds_a_picture_for_every_place(root: Path) -> None:
    html = (root / "report.html").read_text()
    assert "were not found" not in html
    shown = pd.read_parquet(root / "examples.parquet")
    picture = "data:image/webp;base64,Ukl"
    of_pairs = html.partition('id="pairs"')[2].partition("</section>")[0].count(picture)
    assert html.count(picture) - of_pairs == len(shown) > 1400
    assert len(html) < 25e6


@pytest.mark.browser
def test_the_page_opens_in_a_real_browser(root: Path) -> None:
    look(root, "caltech101", 100)


def test_the_export_has_the_photographs_in_their_classes(root: Path, real_data: Path, tmp_path: Path) -> None:
    config = load(CONFIG, [f"data={real_data}", f"root={root}", ALONE])
    rows = pd.concat(pd.read_parquet(path) for path in sorted((root / "assignments").iterdir()))
    parts = [read_images(shard, part["key"]) for shard, part in rows.groupby("image_shard")]
    images = [image for part in parts for image in part.values()]
    assert go(config, Wanted(Format.WEBDATASET, str(tmp_path / "tars")), local=True).images == 4114
    assert go(config, Wanted(Format.IMAGEFOLDER, str(tmp_path / "folders")), local=True).images == 4114
    tars = [str(path) for path in sorted((tmp_path / "tars").glob("*.tar"))]
    samples = list(webdataset.WebDataset(tars, shardshuffle=False))
    number = pd.read_csv(tmp_path / "tars/classes.csv").set_index("cluster")["number"]
    assert [sample["__key__"] for sample in samples] == rows["key"].tolist()
    assert [int(sample["cls"]) for sample in samples] == number[rows["cluster"]].tolist()
    assert [sample["jpg"] for sample in samples] == images
    exported = sorted(ImageFolder(str(tmp_path / "folders")).samples, key=lambda sample: Path(sample[0]).name)
    assert [k for _, k in exported] == number[rows["cluster"]].tolist()
    assert [Path(path).read_bytes() for path, _ in exported] == images
