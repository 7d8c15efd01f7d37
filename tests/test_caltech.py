"""The whole pipeline on real photographs with their real CLIP vectors, as the config has it."""

import json
from pathlib import Path

import pandas as pd
import pytest

from pipelines.config import load
from pipelines.run import Run

CONFIG = Path(__file__).parent.parent / "configs" / "caltech101.yaml"
ALONE = "resources.workers=1"  # threads that wait for each other are slow where the second core is busy


@pytest.fixture(scope="module")
def root(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("caltech")
    assert Run(load(CONFIG, [f"data={real_data}", f"root={root}", ALONE]), local=True).go()
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
    names = pd.read_parquet(root / "clusters.parquet").query("main").set_index("cluster")["name"]
    fitting = {
        "airplane": {"airliner", "airplane", "plane", "jet plane"},
        "motorbike": {"motorcycle", "dirt bike", "moped", "motor scooter"},
        "leopard": {"leopard", "jaguar", "cheetah"},
        "sunflower": {"sunflower"},
        "trilobite": {"trilobite"},
        "grand_piano": {"grand piano", "piano"},
    }
    for kind, words in fitting.items():
        mine = rows[rows["class"] == kind]
        assert len(mine) > 0, f"no class {kind}; there are {sorted(rows['class'].unique())}"
        assert names[mine["cluster"].mode()[0]] in words


def test_the_page_holds_a_picture_for_every_place(root: Path) -> None:
    html = (root / "report.html").read_text()
    assert "were not found" not in html
    shown = pd.read_parquet(root / "examples.parquet")
    assert html.count("data:image/webp;base64,Ukl") == len(shown) > 1400
    assert len(html) < 25e6
