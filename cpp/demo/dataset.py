"""The demonstration's data: drawings with captions, near-duplicates and damaged files, in img2dataset's format.

Does not know the pipeline. All random choices come from the caller's generator, so an equal seed gives equal bytes
(with equal versions of Pillow and NumPy).
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import typer
from numpy.random import Generator
from PIL import Image

from cpp.demo.drawing import KINDS, draw

ASSETS = Path(__file__).parent / "assets"
MODEL = "cpp-demo"
SEED = 1  # of the demonstration's drawings; the small CLIP is trained with another seed
COPIES = 60  # one image in 60 has a near-duplicate, which is shifted by up to two pixels and compressed again
RARE = ("balloon", "cactus")  # kinds with a tenth of the images of the others


class Sample(NamedTuple):
    """One image of a shard. `jpeg` may be damaged; `width` and `height` are those of the intact image."""

    kind: str
    caption: str
    jpeg: bytes
    width: int
    height: int


def counts(n: int) -> dict[str, int]:
    """The number of drawings of each kind out of `n`: about equal, but ten times smaller for the `RARE` kinds."""
    common = [kind for kind in KINDS if kind not in RARE]
    rare = max(1, round(n / (10 * len(common) + len(RARE))))
    share, remainder = divmod(n - rare * len(RARE), len(common))
    if share < rare:
        raise ValueError(f"n is {n}, must be at least {len(KINDS)} for one drawing of each kind")
    return {kind: rare if kind in RARE else share + (common.index(kind) < remainder) for kind in KINDS}


def samples(n: int, rng: Generator) -> list[Sample]:
    """`n` drawings as JPEG, n / 60 near-duplicates and one damaged file for each function in `DAMAGE`, shuffled."""
    result = []
    for kind, count in counts(n).items():
        for _ in range(count):
            image, text = draw(kind, rng)
            result.append(Sample(kind, text, jpeg(image, int(rng.integers(75, 95))), *image.size))
    originals = [result[i] for i in rng.choice(n, n // COPIES + len(DAMAGE), replace=False)]
    for sample in originals[len(DAMAGE) :]:
        with Image.open(io.BytesIO(sample.jpeg)) as image:
            left, top = (int(v) for v in rng.integers(0, 3, 2))
            shifted = image.crop((left, top, image.width, image.height))
        recompressed = jpeg(shifted, int(rng.integers(40, 75)))
        result.append(sample._replace(jpeg=recompressed, width=shifted.width, height=shifted.height))
    result += [s._replace(jpeg=damage(s.jpeg)) for s, damage in zip(originals, DAMAGE, strict=False)]
    return [result[i] for i in rng.permutation(len(result))]


def jpeg(image: Image.Image, quality: int) -> bytes:
    """Encode an image as JPEG."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return file.getvalue()


DAMAGE: tuple[Callable[[bytes], bytes], ...] = (
    lambda data: data[: len(data) // 2],  # an interrupted download
    lambda data: data[:200],  # interrupted in the header
    lambda data: b"",
    lambda data: b"<html><body>404 Not Found</body></html>\n",
    lambda data: b"\xff\xd8" + data[-1:1:-1],  # only the signature is that of a JPEG file
)


def write(folder: Path, n: int, shard_size: int, rng: Generator) -> list[Path]:
    """Write the result of `samples` to tar files `00000.tar`, `00001.tar`, ... of `shard_size` images each.

    As in img2dataset's output, an image is `KEY.jpg`, `KEY.txt` (its caption) and `KEY.json`. The field
    `class` of the JSON is its kind, for evaluation only. Creates `folder`, replaces existing files, returns the paths.
    """
    if not 1 <= shard_size <= 10_000:
        raise ValueError(f"shard_size is {shard_size}, must be from 1 to 10000")
    folder.mkdir(parents=True, exist_ok=True)
    rows, paths = samples(n, rng), []
    for shard, start in enumerate(range(0, len(rows), shard_size)):
        paths.append(folder / f"{shard:05d}.tar")
        with tarfile.open(paths[-1], "w", format=tarfile.USTAR_FORMAT) as tar:
            for i, sample in enumerate(rows[start : start + shard_size]):
                key = f"{shard:05d}{i:04d}"
                metadata = {
                    "caption": sample.caption,
                    "key": key,
                    "status": "success",
                    "error_message": None,
                    "width": sample.width,
                    "height": sample.height,
                    "sha256": hashlib.sha256(sample.jpeg).hexdigest(),
                    "class": sample.kind,
                }
                files = {"jpg": sample.jpeg, "txt": sample.caption.encode(), "json": json.dumps(metadata).encode()}
                for extension, data in files.items():
                    member = tarfile.TarInfo(f"{key}.{extension}")
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))
    return paths


def main(out: Path, n: int = 3000, shard_size: int = 512, seed: int = SEED) -> None:
    """Write the demonstration's data to the folder OUT: tars of drawings, the model, and a list of words."""
    for path in write(out / "images", n, shard_size, np.random.default_rng(seed)):
        typer.echo(path)
    (out / "model").mkdir(exist_ok=True)
    for suffix in (".json", ".safetensors"):
        shutil.copy(ASSETS / f"{MODEL}{suffix}", out / "model")
    words = sorted([*KINDS, *(ASSETS / "nouns.txt").read_text().split()])
    (out / "words.txt").write_text("\n".join(words) + "\n")


if __name__ == "__main__":
    typer.run(main)
