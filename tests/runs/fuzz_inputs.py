"""Random odd inputs must give each picture as a row with its caption, or reject it: `python -m tests.runs.fuzz_inputs`.

Options: --minutes 10 --seed 0. Each round makes an input, encodes it and compares the tables with what must come out.
Prints the seed and keeps the folder of the first input that fails; exit code 1.
"""

from __future__ import annotations

import argparse
import io
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import yaml
from PIL import Image

from cpp.demo.dataset import ASSETS
from cpp.files.common_schema import conform
from cpp.sources.samples import Reason
from cpp.sources.shards import read_images, read_samples
from pipelines.config.errors import UserError
from pipelines.config.load import load
from pipelines.engine.shard_index import FilePaths
from pipelines.run import Run
from tests.support.odd_inputs import Generator
from tests.support.odd_parts import OddInput, number


def check(folder: Path, seed: int) -> str:
    """Make the input of this seed in the new `folder` and encode it. Returns its format; AssertionError if it fails."""
    odd, root = Generator(folder, seed).make(), f"{folder}-run"
    config = {
        "name": "odd",
        "root": root,
        "data": str(folder),
        odd.kind: odd.section,
        "partition": {"n_clusters": 2},
        "resources": {"workers": 1, "cpus": 1},
    }
    if odd.kind == "images":
        model = {"model": "cpp-demo", "pretrained": f"{ASSETS}/cpp-demo.safetensors", "configs": str(ASSETS)}
        config["encode"] = model
    file = folder.parent / f"{folder.name}.yaml"
    file.write_text(yaml.safe_dump(config, allow_unicode=True))
    try:
        run = Run(load(file), ["columns"], local=True)
        assert run.go(), [failed.error for outcome in run.outcomes.values() for failed in outcome.failed]
    except UserError as error:
        if odd.error is None or odd.error not in str(error):
            raise AssertionError(f"the error should be: {odd.error}") from error
    else:
        assert odd.error is None, f"no error, expected: {odd.error}"
        schema = pq.read_schema(Path(root) / "columns.parquet")
        for path in FilePaths(run.files["features"]):
            _, lost = conform(pq.read_table(path).drop_columns(["key", "embedding"]), schema)
            assert not lost, f"values without a place in the common schema: {lost}"
        if odd.vectors is not None:
            compare_vectors(odd, list(FilePaths(run.files["features"])), list(FilePaths(run.files["rejected"])))
        else:
            compare(odd, Path(root))
        if odd.texts:
            samples = [row for file in run.files["images"].values() for row in read_samples(file.path)]
            assert odd.texts <= {value for row in samples for value in row.metadata.values()}
    return str(odd.section.get("format", odd.kind))


def compare(odd: OddInput, root: Path) -> None:
    """Compare the tables of a run with what must come out of its input."""
    features, rejected = _rows(root / "features"), _rows(root / "rejected")
    if odd.texts is None:
        assert len(features) == len(odd.captions), f"{len(features)} rows, {len(odd.captions)} pictures"
        assert len(rejected) == odd.rejected, f"{len(rejected)} rejected rows, expected {odd.rejected}"
    else:
        n_pictures = len(features) + sum(row["reason"] != Reason.NO_IMAGE for row in rejected)
        assert n_pictures == len(odd.captions), f"{n_pictures} rows of pictures, {len(odd.captions)} pictures"
        assert len({row["key"] for row in features}) == len(features), "a key repeats"
    captions = dict[int, str | None]()
    for shard in {row["image_shard"] for row in features}:
        rows = [row for row in features if row["image_shard"] == shard]
        images = read_images(shard, [row["key"] for row in rows])
        for row in rows:
            identity = number(Image.open(io.BytesIO(images[row["key"]])))
            assert identity not in captions, f"picture {identity} is in two rows, the second is {row['key']}"
            captions[identity] = row.get("caption")
    if odd.texts is not None:  # which of them are rejected, and which text is whose, depends on many rules
        assert captions.keys() <= odd.captions.keys()
        return
    wrong = {i: (captions.get(i), caption) for i, caption in odd.captions.items() if captions.get(i) != caption}
    assert not wrong, f"captions (got, expected) by picture: {wrong}"
    assert captions.keys() == odd.captions.keys()
    if odd.section["format"] == "folder":
        sizes = Counter(row["file"] for row in (*features, *rejected))
        assert max(sizes.values()) <= odd.section["shard_size"], f"shards are too large: {sizes}"


def compare_vectors(odd: OddInput, features: list[str], rejected: list[str]) -> None:
    """Compare the tables of imported vectors, in the order of their files, with the rows of the input."""
    expected = iter(odd.vectors or [])
    for table, rejected_rows in zip(map(pq.read_table, features), map(pq.read_table, rejected), strict=True):
        rows, lost = iter(table.to_pylist()), {row["row"]: row for row in rejected_rows.to_pylist()}
        assert len({*table["key"].to_pylist(), *rejected_rows["key"].to_pylist()}) == len(table) + len(lost), "keys"
        for i in range(len(table) + len(lost)):
            row = next(expected)
            assert (row["number"] is None) == (i in lost), f"row {i} of {row}"
            actual = lost[i] if i in lost else next(rows)
            if row["key"] is not None:
                assert actual["key"].startswith(row["key"]), f"key {actual['key']} of {row}"
            if i in lost:
                continue
            direction = np.array(actual["embedding"], np.float64) / actual["embedding"][0] * 16
            assert np.rint(direction[1:4]) @ [256, 16, 1] == row["number"], f"another vector than that of {row}"
            for name, value in row["metadata"].items():
                titles = [title for title in actual if title.endswith(name) and title.replace("source_", "") in name]
                assert any(_equal(actual[title], value) for title in titles), f"{name} of {row} is lost in {actual}"
            if "picture" in row:
                image = read_images(actual["image_shard"], [actual["key"]])[actual["key"]]
                assert number(Image.open(io.BytesIO(image))) == row["picture"], f"another picture than that of {row}"
    assert next(expected, None) is None, "rows are missing"


def _equal(one: Any, other: Any) -> bool:
    return bool(one == other) and type(one) is type(other)


def _rows(folder: Path) -> list[dict[str, Any]]:
    """The rows of the tables in a folder, each with the name of its `file`."""
    files = sorted(folder.glob("*.parquet"))
    return [{**row, "file": path.name} for path in files for row in pq.read_table(path).to_pylist()]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    end, formats, seed = time.monotonic() + 60 * options.minutes, Counter[str](), options.seed
    with tempfile.TemporaryDirectory() as folder:
        while time.monotonic() < end:
            place = Path(folder) / f"odd-{seed}"
            place.mkdir()
            try:
                formats[check(place, seed)] += 1
            except Exception:
                kept = Path(tempfile.mkdtemp(prefix=f"odd-{seed}-"))
                shutil.copytree(folder, kept, dirs_exist_ok=True, symlinks=True)
                traceback.print_exc()
                print(f"seed {seed} fails; its input is kept in {kept}", flush=True)
                return 1
            seed += 1
            for entry in Path(folder).iterdir():
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    print(f"no finding in {formats.total()} inputs: {dict(formats)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
