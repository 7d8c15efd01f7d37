"""How well reading and decoding feed a GPU, here a simulated one: `python -m tests.bench.feed`, with CPP_TEST_DATA set.

The simulated card is an encoder whose batches take as long as its rate says, one after another, while the host is free.
Its rate is a share of what the threads decode at that moment, since no machine with 2 cores decodes as much as a GPU
encodes: cores for a card = rate of the card / (share x rate of a core). Knows no Ray.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
from numpy.typing import NDArray

from cpp.encoding import images
from cpp.encoding.model import Identity
from cpp.sources import shards as sources
from cpp.sources.shards import Images, ImageShard
from cpp.store.local import Store
from pipelines.engine.executor import run_in_process
from pipelines.engine.plan import Task
from pipelines.engine.stage import Context
from pipelines.stages.encode import Encode, Reading
from tests.bench import heading
from tests.bench.encode import LIMITS, THREADS, first

PREPROCESS = images.Preprocess((224, 224), open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD)
DIM, BATCH = 768, 64  # of ViT-L/14; a batch is smaller than on a card as the rate is
SHARDS, IMAGES = 6, 1200
SHARES = (0.6, 0.8)
REPEATS = 3


class Card:
    """An encoder as `Encode` uses it, whose batches take `len(batch) / rate` seconds, one after another."""

    identity, preprocess, dim = Identity("simulated", "none", ""), PREPROCESS, DIM

    def __init__(self, rate: float) -> None:
        self.rate, self.images = rate, 0
        self.began = self.free = self.waited = (
            0.0  # when the first batch began, when the last ends, seconds without any
        )

    def open(self, device: str) -> Card:
        return self

    def begin(self, rows: Sequence[NDArray[np.uint8]]) -> Callable[[], NDArray[np.float16]]:
        np.stack(rows)  # as for the copy to a device
        now = time.perf_counter()
        if not self.images:
            self.began = self.free = now
        self.waited += max(0.0, now - self.free)
        ends = self.free = max(now, self.free) + len(rows) / self.rate
        self.images += len(rows)

        def wait() -> NDArray[np.float16]:
            time.sleep(max(0.0, ends - time.perf_counter()))
            return np.full((len(rows), DIM), DIM**-0.5, np.float16)

        return wait


class OneInFlight(Encode):
    """Encode, a shard after another: the baseline."""

    version = Encode.version
    overlaps = False


def encode(tar: str, rate: float, kind: type[Encode]) -> dict[str, float]:
    """Encode a tar several times on a card of this rate: the share of its time that it waits, and peak MiB."""
    card: Any = Card(rate)
    stage = kind(
        encoders={"embedding": card},
        max_bytes=LIMITS.max_bytes,
        max_pixels=LIMITS.max_pixels,
        max_aspect=LIMITS.max_aspect,
    )
    context = Context({}, threads=THREADS, device="cpu", batch=8192, image_batch=BATCH, prefetch=4)
    with tempfile.TemporaryDirectory() as folder:
        store, shard = Store(folder), shard_of(tar)
        tasks = [
            Task(
                "encode", str(i), "k", {"images": shard}, {p.name: store.path(p, str(i), "k") for p in Encode.products}
            )
            for i in range(SHARDS)
        ]
        errors = [result.error for result in run_in_process(stage, context, tasks, store) if result.error]
    if errors:
        raise RuntimeError(errors[0])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    return {"waiting": card.waited / (card.free - card.began), "MiB": peak}


def decoded_rate(tar: str) -> float:
    """Images a second that the threads read and decode, with nothing else to do."""
    reading, start = Reading(shard_of(tar), [PREPROCESS], LIMITS, False, None), time.perf_counter()
    n = sum(1 for _ in reading.pixels(THREADS, 2 * BATCH))
    return n / (time.perf_counter() - start)


def shard_of(tar: str) -> ImageShard:
    (shard,) = sources.shards(Images("webdataset", (tar,))).values()
    return shard


def in_process(tar: str, rate: float, kind: type[Encode]) -> dict[str, float]:
    """`encode` in a process of its own, for its peak memory."""
    arguments = [sys.executable, "-m", "tests.bench.feed", tar, str(rate), kind.__name__]
    done: dict[str, float] = json.loads(subprocess.run(arguments, check=True, capture_output=True).stdout)
    return done


def pixels(data: bytes) -> NDArray[np.uint8]:
    return PREPROCESS(images.decode(data, LIMITS))


def decode_rates(data: list[bytes], pool: Executor) -> tuple[float, float]:
    """Images a second, and a CPU second of this process and its children, that a pool decodes."""
    start, spent = time.perf_counter(), cpu_seconds()
    for _ in pool.map(pixels, data, chunksize=16):
        pass
    rate = len(data) / (time.perf_counter() - start)
    pool.shutdown()  # the time of children counts once they have ended
    return rate, len(data) / (cpu_seconds() - spent)


def cpu_seconds() -> float:
    return sum(
        usage.ru_utime + usage.ru_stime
        for usage in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


def main(data: Path) -> None:
    print(f"{heading()}; load {os.getloadavg()[0]:.0f}\n")
    print("| decode and resize, the best of turns | images/s | images per CPU second |\n|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        tar = first(data / "cc3m-img2dataset/00000.tar", IMAGES, Path(folder))
        sets = {
            "cc3m": [sample.image or b"" for sample in sources.read_samples(shard_of(tar))],
            "coco": [path.read_bytes() for path in sorted((data / "coco-mini/val2017").iterdir())] * 3,
        }
        pools: dict[str, Callable[[], Executor]] = {
            "threads": partial(ThreadPoolExecutor, THREADS),
            "processes": partial(ProcessPoolExecutor, THREADS),
        }
        for name, files in sets.items():
            rates: dict[str, list[tuple[float, float]]] = {kind: [] for kind in pools}
            for _ in range(REPEATS):
                for kind, pool in pools.items():
                    rates[kind].append(decode_rates(files, pool()))
            for kind, of_turns in rates.items():
                wall, cpu = map(max, zip(*of_turns, strict=True))
                print(f"| {name}, {THREADS} {kind} | {wall:.0f} | {cpu:.0f} |", flush=True)
        print(
            "\n| card's rate / decoded rate | images/s | shards in flight | waiting | peak MiB |\n|---|---|---|---|---|"
        )
        for share in SHARES:
            for _ in range(REPEATS):
                rate = share * decoded_rate(tar)
                for kind_of_stage, shards in ((OneInFlight, 1), (Encode, 2)):
                    result = in_process(tar, rate, kind_of_stage)
                    row = f"| {share} | {rate:.0f} | {shards} | {result['waiting']:.1%} | {result['MiB']:.0f} |"
                    print(row, flush=True)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(encode(sys.argv[1], float(sys.argv[2]), {"Encode": Encode}.get(sys.argv[3], OneInFlight))))
    elif folder_of_data := os.environ.get("CPP_TEST_DATA"):
        main(Path(folder_of_data))
    else:
        sys.exit("CPP_TEST_DATA is not set to the folder of real data: nothing to measure")
