"""The folder of a process on a local disk."""

import fcntl
import os
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from cpp.files import scratch

PROGRAM = "from cpp.files import scratch; print(scratch.folder(), flush=True); input()"


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
    assert first.parent.stat().st_mode & 0o077 == 0  # the inputs of a run are nobody else's
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


def test_a_folder_is_not_looked_for_while_another_is_being_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    parent = tmp_path / f"cpp-{os.getuid()}"
    parent.mkdir()
    with (parent / "lock").open("a") as gate:
        fcntl.flock(gate, fcntl.LOCK_EX)
        making = threading.Thread(target=scratch.folder.__wrapped__)
        making.start()
        making.join(0.2)
        assert making.is_alive()
    making.join()
    assert len(list(parent.glob("*/alive"))) == 1


def test_a_process_that_ends_at_this_moment_is_no_hindrance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(Path, "glob", lambda self, pattern: [self / "1-ended/alive"])  # which was there a moment ago
    assert (scratch.folder.__wrapped__() / "alive").exists()
