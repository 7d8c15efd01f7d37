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

import pyarrow.parquet as pq
import yaml
from PIL import Image

from cpp.demo.dataset import ASSETS
from cpp.sources.shards import read_images
from pipelines.config.errors import UserError
from pipelines.config.load import load
from pipelines.run import Run
from tests.support.odd_inputs import Generator, OddInput, number


def check(folder: Path, seed: int) -> str:
    """Make the input of this seed in the new `folder` and encode it. Returns its format; AssertionError if it fails."""
    odd, root = Generator(folder, seed).make(), f"{folder}-run"
    config = {
        "name": "odd",
        "root": root,
        "data": str(folder),
        "images": odd.section,
        "encode": {"model": "cpp-demo", "pretrained": f"{ASSETS}/cpp-demo.safetensors", "configs": str(ASSETS)},
        "partition": {"n_clusters": 2},
        "resources": {"workers": 1, "cpus": 1},
    }
    file = folder.parent / f"{folder.name}.yaml"
    file.write_text(yaml.safe_dump(config, allow_unicode=True))
    try:
        run = Run(load(file), ["encode"], local=True)
        run.go()
    except UserError as error:
        if odd.error is None or odd.error not in str(error):
            raise AssertionError(f"the error should be: {odd.error}") from error
    else:
        compare(odd, Path(root))
    return str(odd.section["format"])


def compare(odd: OddInput, root: Path) -> None:
    """Compare the tables of a run with what must come out of its input."""
    features = [row for path in sorted(root.glob("features/*.parquet")) for row in pq.read_table(path).to_pylist()]
    rejected = [row for path in sorted(root.glob("rejected/*.parquet")) for row in pq.read_table(path).to_pylist()]
    assert odd.error is None, f"no error, expected: {odd.error}"
    assert len(features) == len(odd.captions), f"{len(features)} rows, {len(odd.captions)} pictures"
    assert len(rejected) == odd.rejected, f"{len(rejected)} rejected rows, expected {odd.rejected}"
    captions = dict[int, str | None]()
    for shard in {row["image_shard"] for row in features}:
        rows = [row for row in features if row["image_shard"] == shard]
        images = read_images(shard, [row["key"] for row in rows])
        for row in rows:
            identity = number(Image.open(io.BytesIO(images[row["key"]])))
            assert identity not in captions, f"picture {identity} is in two rows, the second is {row['key']}"
            captions[identity] = row.get("caption")
    wrong = {i: (captions.get(i), caption) for i, caption in odd.captions.items() if captions.get(i) != caption}
    assert not wrong, f"captions (got, expected) by picture: {wrong}"
    assert captions.keys() == odd.captions.keys()


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
