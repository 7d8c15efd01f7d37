"""The folder of a process on a local disk."""

import os
import signal
import subprocess
import sys
from pathlib import Path

PROGRAM = "from cpp import scratch; print(scratch.folder(), flush=True); input()"


def test_a_folder_goes_with_its_process_or_when_the_next_one_starts(tmp_path: Path) -> None:
    def start() -> tuple[subprocess.Popen[str], Path]:
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"TMPDIR": str(tmp_path)},
        )
        assert process.stdout is not None
        return process, Path(process.stdout.readline().strip())

    (alive, first), (killed, second) = start(), start()
    assert first.is_dir()
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert second.is_dir()
    ended, third = start()
    assert first.is_dir()
    assert not second.exists()
    for process in (alive, ended):
        process.communicate("\n")
    assert not first.exists()
    assert not third.exists()
