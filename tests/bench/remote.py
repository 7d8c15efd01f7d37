"""Reading a tar from a web server with a long way to it, ahead or not: `python -m tests.bench.remote`."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from cpp.files import filesystem
from cpp.sources.tar import TarShard
from tests.bench import heading
from tests.support import hub
from tests.support.tars import write_tar

IMAGES, BYTES = 640, 100_000
ANSWER = 0.2  # seconds until a request is answered
WORK = 0.002  # seconds that the reader works on an image


def seconds(address: str) -> float:
    """Seconds to read a tar image by image."""
    start = time.perf_counter()
    for _ in TarShard(address, "").read(1 << 20):
        time.sleep(WORK)
    return time.perf_counter() - start


def wait(number: int) -> bool:
    """Cut no answer off, but make it late."""
    time.sleep(ANSWER)
    return False


def main() -> None:
    print(heading(), f"{IMAGES} images of {BYTES:,} bytes, {ANSWER} s until an answer, {WORK} s of work for an image")
    with hub.serve() as server, tempfile.TemporaryDirectory() as folder:
        tar = write_tar(Path(folder) / "a.tar", [(f"{i:04d}.jpg", bytes(BYTES)) for i in range(IMAGES)])
        server.files["a.tar"] = Path(tar).read_bytes()
        address = f"{server.url}/{hub.REPOSITORY}/resolve/main/a.tar"
        print(f"a server that answers at once: {seconds(address):.2f} s")
        server.cut = wait
        for _ in range(2):
            print(f"ahead: {seconds(address):.2f} s")
            ahead, filesystem.AHEAD = filesystem.AHEAD, {}
            print(f"baseline, fsspec's own requests of 5 MB: {seconds(address):.2f} s")
            filesystem.AHEAD = ahead


if __name__ == "__main__":
    main()
