"""Groups of images, such as the frames of a video: at most `keep` are fitted and balanced, and no row is lost."""

import numpy as np
import pandas as pd
import pytest

from cpp.files import tables
from pipelines.config.errors import ConfigError
from pipelines.config.load import load
from pipelines.engine.inputs import input_files
from pipelines.run import Run
from pipelines.stages import fit
from tests.support.datasets import Dataset
from tests.support.runs import QUICK, computed, go


def add_videos(dataset: Dataset) -> None:
    """A metadata column `video`: 30 images of each shard are the frames of one video, the others of none."""
    for path in sorted((dataset.folder / "data/metadata").iterdir()):
        frame = pd.read_parquet(path)
        frame["video"] = ["film" if i < 30 else None for i in range(len(frame))]
        frame.to_parquet(path)


@pytest.fixture
def samples(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of rows of each sample that a run draws: those of the fit and of the partition."""
    sizes = []
    draw = tables.sample_rows

    def count(*args: object, **kwargs: object) -> object:
        rows = draw(*args, **kwargs)  # type: ignore[arg-type]
        sizes.append(len(rows))
        return rows

    monkeypatch.setattr(fit.tables, "sample_rows", count)
    return sizes


def run(dataset: Dataset, *overrides: str) -> Run:
    """A run up to the clusters, in which every image gets one."""
    result = go(dataset, *QUICK, *overrides)
    assert result.ok
    assert sum(len(pd.read_parquet(path)) for path in (dataset.root / "assignments").iterdir()) == 160
    return result


def test_a_column_limits_the_sample_and_the_balanced_subset(dataset: Dataset, samples: list[int]) -> None:
    add_videos(dataset)
    names = ["assign"]
    assert go(dataset, *QUICK, names=names).ok
    assert samples == [160, 160]
    samples.clear()
    group = "import.group={column: video, keep: 5}"
    assert go(dataset, *QUICK, group, names=names).ok
    assert samples == [160 - 90 + 5] * 2
    run(dataset, group, "curate={size: 100, duplicates: null}")
    kept = set(pd.concat(map(pd.read_parquet, (dataset.root / "keep").iterdir()))["key"])
    images = pd.concat(map(pd.read_parquet, (dataset.root / "assignments").iterdir()))
    assert len(kept) == 75
    assert images[images["key"].isin(kept)]["video"].notna().sum() == 5
    assert len(pd.concat(map(pd.read_parquet, (dataset.root / "drop").iterdir()))) == 85
    again = run(dataset, "import.group={column: video, keep: 100}")
    assert {"thin", "fit", "partition", "assign"} <= computed(again).keys()


@pytest.mark.parametrize("keep", ["centroid", "farthest", "first"])
def test_of_a_video_of_alike_frames_a_balanced_subset_has_a_frame(dataset: Dataset, keep: str) -> None:
    """The frame that is kept of the duplicates is among those that the subset may have."""
    add_videos(dataset)
    rng = np.random.default_rng(0)
    first = np.load(dataset.folder / "data/img_emb/img_emb_0.npy")[0]
    for path in (dataset.folder / "data/img_emb").iterdir():
        X = np.load(path)
        X[:30] = first + 0.002 * rng.standard_normal((30, X.shape[1]))
        np.save(path, X)
    duplicates = f"duplicates: {{threshold: 0.99, pictures: false, keep: {keep}}}"
    run(dataset, "import.group={column: video, keep: 3}", f"curate={{size: 60, {duplicates}}}")
    images = pd.concat(map(pd.read_parquet, (dataset.root / "assignments").iterdir()))
    kept = set(pd.concat(map(pd.read_parquet, (dataset.root / "keep").iterdir()))["key"])
    (frame,) = images[images["video"].notna() & images["key"].isin(kept)]["key"]
    rows = pd.concat(map(pd.read_parquet, (dataset.root / "duplicates").iterdir())).set_index("key")
    assert rows["kept"][frame]


def test_a_pattern_of_the_key_names_the_group(dataset: Dataset, samples: list[int]) -> None:
    """Keys are the number of the shard and that of the row: the first digit is the group."""
    go(dataset, *QUICK, "import.group={pattern: '^(.)', keep: 7}", names=["assign"])
    go(dataset, *QUICK, "import.group={pattern: '^1', keep: 7}", names=["assign"])
    assert samples == [3 * 7] * 2 + [160 - 60 + 7] * 2


def test_a_pattern_that_matches_no_key_is_an_error_with_a_key(dataset: Dataset) -> None:
    stopped = go(dataset, *QUICK, "import.group={pattern: 'frame_.*'}")
    (failed,) = stopped.outcomes["thin"].failed
    assert "group.pattern is 'frame_.*', and no key matches it, such as '00000': change it" in str(failed.error)
    assert stopped.outcomes["fit"].waits_for == "thin"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("{}", "give either column, a metadata column such as video, or pattern"),
        ("{column: video, pattern: x}", "give either column"),
        ("{pattern: '('}", r"is '\(', which is no regular expression"),
        ("{pattern: '(a)(b)'}", r"has 2 groups: keep one, and write the others as \(\?:...\)"),
        ("{column: video, keep: 0}", "import.group.keep: input should be greater than or equal to 1"),
        ("{column: cluster}", "'cluster' is a column of the results"),
    ],
)
def test_bad_groups_are_errors_with_the_fix(dataset: Dataset, value: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(dataset.config, [f"import.group={value}"])


def test_a_column_that_is_missing_is_an_error_before_anything_is_read(dataset: Dataset) -> None:
    config = load(dataset.config, ["import.group={column: video}"])
    with pytest.raises(ConfigError, match="import.group.column is 'video', and no image has a metadata column of this"):
        input_files(config)


def test_images_have_groups_too(pictures: Dataset, samples: list[int]) -> None:
    assert go(pictures, *QUICK, "images.group={pattern: '^(.)', keep: 9}", names=["assign"]).ok
    assert samples == [27, 27]
