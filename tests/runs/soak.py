"""Runs under random faults must end with an undisturbed run's tables: `python -m tests.runs.soak --minutes 3 --seed 0`.

Each round removes some of the results, starts a run on a Ray cluster of three nodes on this machine or on a local Ray
instance, and injects faults: it kills a worker, a node or the driver, interrupts the run, deletes finished results or
cuts them off, changes an input and restores it. Prints the seed and the faults; exit code 1 if any table differs.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from ray.cluster_utils import Cluster

from tests.support.datasets import Dataset, write_dataset
from tests.support.runs import files

SHARDS = (12,) * 24
NODE = {"num_cpus": 1, "object_store_memory": 100 * 2**20, "include_dashboard": False}
SILENCE = 240  # seconds without a line after which a run counts as hanging
KINDS = ("worker", "node", "driver", "interrupt", "deleted result", "cut result", "changed input", "touched input")


class Soak:
    """A data set and a cluster, on which runs are disturbed again and again."""

    def __init__(self, dataset: Dataset, seed: int) -> None:
        self.dataset, self.random = dataset, random.Random(seed)  # noqa: S311 (no secrets)
        self.done = Counter[str]()
        self.changed: dict[Path, bytes] = {}
        self.ticks = 0
        self.cluster = Cluster(initialize_head=True, head_node_args=NODE)
        for _ in range(2):
            self.cluster.add_node(**NODE)

    def run(self, *overrides: str) -> subprocess.Popen[str]:
        """Start a run. Steps that run once have one thread in all runs, because the last bits depend on it."""
        settings = [part for override in overrides for part in ("--set", override)]
        program = [sys.executable, "-m", "pipelines", "run", str(self.dataset.config), *settings]
        return subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def round(self) -> None:
        """One run with one to three faults."""
        self.remove_results()
        joined = self.random.random() < 0.7
        if not joined:
            process = self.run("resources.workers=1")
        else:
            process = self.run(f"resources.ray_address={self.cluster.address}", "resources.workers=3")
        wait = [self.random.randrange(1, 40) for _ in range(self.random.randrange(1, 4))]
        faults = {line: self.random.choice(KINDS) for line in wait}
        lines = list[str]()
        for line in self.lines(process):
            lines.append(line)
            if ": " in line and (kind := faults.pop(sum(" rows" in text for text in lines), None)):
                self.inject(kind, process, joined)
        code = process.wait()
        self.log(f"run on {'the cluster' if joined else 'a local Ray instance'}: exit {code}, {len(lines)} lines")
        # 1: an input or a result changed that a step was about to read
        if code not in {0, 1, 130, -signal.SIGKILL}:
            raise AssertionError(f"exit code {code}: {''.join(lines[-20:])}")
        self.restore_inputs()

    def lines(self, process: subprocess.Popen[str]) -> Iterator[str]:
        """Yield the output of a run. AssertionError if it prints nothing for SILENCE seconds."""
        assert process.stdout is not None
        hangs = threading.Event()

        def end() -> None:
            hangs.set()
            process.kill()

        while True:
            watch = threading.Timer(SILENCE, end)
            watch.start()
            line = process.stdout.readline()
            watch.cancel()
            if hangs.is_set():
                raise AssertionError(f"a run has printed nothing for {SILENCE} s")
            if not line:
                return
            yield line

    def remove_results(self) -> None:
        """Remove half of the results of about half of the products, so that the run has something to do."""
        for folder in sorted((self.dataset.root / "cache").glob("*/")):
            results = sorted(folder.glob("*-*.*")) if self.random.random() < 0.5 else []
            for path in self.random.sample(results, (len(results) + 1) // 2):
                path.unlink()

    def inject(self, kind: str, process: subprocess.Popen[str], joined: bool) -> None:
        self.log(f"  {kind}")
        self.done[kind] += 1
        if kind == "driver":
            process.kill()
        elif kind == "interrupt":
            process.send_signal(signal.SIGINT)
        elif kind == "worker":
            if workers := self.workers():
                os.kill(self.random.choice(workers), signal.SIGKILL)
        elif kind == "node" and joined:
            self.cluster.remove_node(self.random.choice(list(self.cluster.worker_nodes)), allow_graceful=False)
            self.cluster.add_node(**NODE)
        elif kind.endswith("result"):
            results = sorted(p for p in (self.dataset.root / "cache").glob("*/*-*.*") if p.is_file())
            for path in self.random.sample(results, min(3, len(results))):
                if kind.startswith("deleted"):
                    path.unlink(missing_ok=True)
                else:
                    path.chmod(0o644)
                    os.truncate(path, path.stat().st_size // 2)
        elif kind.endswith("input"):
            path = self.random.choice(sorted(self.dataset.folder.glob("data/img_emb/*.npy")))
            if kind.startswith("changed"):
                self.changed.setdefault(path, path.read_bytes())
                np.save(path, np.ones((12, 16), np.float16))
            self.ticks += 1  # a new time each: size and time identify an input
            os.utime(path, (self.ticks + self.random.choice([0, 4e9]),) * 2)

    def workers(self) -> list[int]:
        """Process ids of workers that descend from this process, through the cluster or a local Ray instance."""
        pids = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if (folder / "cmdline").read_bytes().startswith(b"ray::Worker") and self._ours(int(folder.name)):
                    pids.append(int(folder.name))
            except OSError:
                continue
        return sorted(pids)

    def _ours(self, process: int) -> bool:
        while process > 1 and process != os.getpid():
            process = int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
        return process == os.getpid()

    def restore_inputs(self) -> None:
        """Restore changed inputs."""
        for path, good in self.changed.items():
            path.write_bytes(good)
        self.changed.clear()

    def faults(self) -> list[str]:
        """The differences after a last, undisturbed run."""
        process = self.run("resources.workers=1")
        output = process.communicate()[0]
        if process.returncode:
            return [f"the last run ended with {process.returncode}: {output[-2000:]}"]
        other = self.dataset.folder / "undisturbed"
        alone = subprocess.run([*process.args, "--set", f"root={other}", "--local"], capture_output=True, check=True)  # type: ignore[misc]
        assert alone.returncode == 0
        ours, theirs = files(self.dataset.root), files(other)
        wrong = [name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name)]
        totals = json.loads((self.dataset.root / "run.json").read_text())["totals"]
        if totals != {"images": self.dataset.rows, "rejected": 0, "clustered": self.dataset.rows}:
            wrong.append(f"totals {totals}, {self.dataset.rows} rows were put in")
        return wrong

    def log(self, text: str) -> None:
        print(f"{datetime.now(UTC):%H:%M:%S} {text}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    print(f"seed {asked.seed}, {asked.minutes:g} minutes", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        soak = Soak(write_dataset(Path(folder), SHARDS), asked.seed)
        try:
            rounds, end = 0, time.monotonic() + 60 * asked.minutes
            while time.monotonic() < end:
                soak.round()
                rounds += 1
            wrong = soak.faults()
        finally:
            soak.cluster.shutdown()
    done = ", ".join(f"{n} x {kind}" for kind, n in soak.done.most_common())
    print(f"seed {asked.seed}: {rounds} runs; {done}")
    print(
        "\n".join(["DIFFERENT:", *wrong]) if wrong else "every table as of an undisturbed run, every row accounted for"
    )
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
