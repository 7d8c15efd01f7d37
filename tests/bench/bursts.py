"""Bursts planted in real vectors: K and ARI with and without `group`. `python -m tests.bench.bursts`, CPP_TEST_DATA.

With `given` as its argument, K is the number of classes and is not estimated, which is fast.

One image in a hundred is repeated 50 times, each time with noise, as the frames of a video. Labels score and nothing
else; ARI is that of the original images alone.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from sklearn.metrics import adjusted_rand_score

from pipelines.config.load import load
from pipelines.run import Run
from tests.bench import heading

SETS = ("oxford_pets", "dtd", "caltech101")
SHARE, FRAMES = 0.01, 50
COSINES = (0.995, 0.95)  # of a frame and its image
KEEPS = (None, 10, 1)


def vectors(name: str) -> tuple[np.ndarray, np.ndarray]:
    """The unit vectors and the classes of a set."""
    data = Path(os.environ["CPP_TEST_DATA"])
    folder = data / "caltech101-clip-b32" if name == "caltech101" else data / "clip-b32-features" / name
    X = [np.load(path) for path in sorted((folder / "img_emb").glob("*.npy"))]
    label = [pq.read_table(path)["label"].to_numpy() for path in sorted((folder / "metadata").glob("*.parquet"))]
    return np.concatenate(X).astype(np.float32), np.concatenate(label)


def planted(X: np.ndarray, cosine: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The vectors with bursts after them, and the number of the original of each."""
    original = np.repeat(rng.choice(len(X), round(len(X) * SHARE), replace=False), FRAMES)
    noise = rng.standard_normal((len(original), X.shape[1])).astype(np.float32)
    noise -= (noise * X[original]).sum(1, keepdims=True) * X[original]
    noise /= np.linalg.norm(noise, axis=1, keepdims=True)
    frames = cosine * X[original] + (1 - cosine**2) ** 0.5 * noise
    return np.concatenate([X, frames]), np.concatenate([np.arange(len(X)), original])


def clustered(X: np.ndarray, original: np.ndarray, keep: int | None, given: int | None) -> tuple[int, np.ndarray]:
    """K and the cluster of each vector in a run whose groups are the images with their bursts."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in ("img_emb", "metadata"):
            (folder / part).mkdir()
        np.save(folder / "img_emb/img_emb_0.npy", X.astype(np.float16))
        keys = [f"{i:06d}" for i in range(len(X))]
        table = {"key": keys, "video": [f"v{number}" for number in original]}
        pq.write_table(pa.table(table), folder / "metadata/metadata_0.parquet")
        group = {"group": {"column": "video", "keep": keep}} if keep else {}
        config: dict[str, object] = {
            "name": "bursts",
            "root": str(folder / "run"),
            "import": {"path": str(folder), **group},
        }
        config["partition"] = {"n_clusters": given}
        (folder / "c.yaml").write_text(yaml.safe_dump(config))
        run = Run(load(folder / "c.yaml"), ["assign"], local=True)
        assert run.go()
        cluster = pq.read_table(folder / "run/assignments")["cluster"].to_numpy()
    return len(np.unique(cluster)), cluster


def main() -> None:
    print(heading())
    print("| set, classes | bursts | without `group` | " + " | ".join(f"keep {keep}" for keep in KEEPS if keep) + " |")
    print("|---|---|" + "---|" * len(KEEPS))
    for name in SETS:
        X, label = vectors(name)
        given = len(np.unique(label)) if "given" in sys.argv else None
        K, cluster = clustered(X, np.arange(len(X)), None, given)
        title = f"{name}, {len(np.unique(label))}"
        print(f"| {title} | none | {K}, {adjusted_rand_score(label, cluster):.1%} |" + "  |" * (len(KEEPS) - 1))
        for cosine in COSINES:
            Y, original = planted(X, cosine, np.random.default_rng(0))
            cells = []
            for keep in KEEPS:
                K, cluster = clustered(Y, original, keep, given)
                cells.append(f"{K}, {adjusted_rand_score(label, cluster[: len(X)]):.1%}")
            print(f"| {title} | cosine {cosine} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
