"""The command line: frozen, with exit codes that mean something."""

import json
import re
import shlex
import signal
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import typer.main

from cpp.store.local import Store
from pipelines.__main__ import app
from tests.support import golden
from tests.support.datasets import Dataset
from tests.support.runs import call


def test_the_command_line_is_frozen() -> None:
    """`python -m tests.golden` writes it again; people's scripts depend on it."""
    assert json.loads(json.dumps(golden.command_line())) == json.loads(golden.COMMAND_LINE.read_text())


def test_the_version_is_printed() -> None:
    assert call("--version") == (0, f"cpp-at-scale {version('cpp-at-scale')}\n")


def test_targets_of_make_call_commands_that_there_are() -> None:
    """What they would run, as the command line reads it."""
    given = ["SHARDS=a/*.tar b c", "IMAGES=d", "WHAT=e f.jpg", "FORMAT=csv", "CURATED=1", "DATA=g", "OVERRIDES=seed=1"]
    targets = ("demo", "run", "plots", "plan", "status", "append", "predict", "export", "clean-results")
    program = ["make", "--dry-run", "--old-file=.venv/ready", *targets, *given]
    said = subprocess.run(program, cwd=golden.FOLDER.parents[1], capture_output=True, text=True, check=True).stdout
    called = [shlex.split(line)[3:] for line in said.splitlines() if "-m pipelines" in line]
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    params = {name: commands[name].make_context(name, rest).params for name, *rest in called}
    assert len(called) == len(targets)
    assert params["append"]["shards"] == ["a/*.tar", "b", "c"]
    assert params["append"]["images"] == "d"
    assert params["predict"]["what"] == "e f.jpg"


@pytest.mark.parametrize(
    ("arguments", "title"),
    [
        (["run", ""], "an argument of run"),
        (["run", "a.yaml", "--local", ""], "an argument of run"),
        (["init", ""], "an argument of init"),
        (["init", "images", "--to", " "], "--to"),
        (["schema", "--to="], "--to"),
        (["predict", "a.yaml", "a.jpg", "--to", ""], "--to"),
        (["export", "a.yaml", "--format", "csv", "--to", ""], "--to"),
        (["plan", "a.yaml", "--set="], "--set"),
    ],
)
def test_empty_arguments_are_refused_by_name(arguments: list[str], title: str) -> None:
    code, message = call(*arguments)
    assert code == 2
    assert message.startswith(f"{title} is an empty text: give a value")


def test_plan_prints_steps_settings_places_and_counts_and_runs_nothing(dataset: Dataset) -> None:
    code, said = call("plan", dataset.config, "--set", "fit.epochs=9")
    assert code == 0
    assert "import          0 of 3 shards done" in said
    assert "epochs: 9" in said
    assert f"writes {dataset.root}/assignments/*.parquet" in said
    assert not dataset.root.exists()


def test_a_root_that_is_a_file_is_said_and_no_traceback(dataset: Dataset, tmp_path: Path) -> None:
    root = f"root={tmp_path / 'notes.txt'}"
    (tmp_path / "notes.txt").touch()
    code, said = call("status", dataset.config, "--set", root)
    assert (code, said.splitlines()[0]) == (0, "Coloured things: never started")
    assert "appended" not in said
    code, said = call("run", dataset.config, "--local", "--set", root)
    assert code == 2
    assert "(Not a directory): set `root` to one that can be written" in said


def test_run_then_status_then_run_again(dataset: Dataset) -> None:
    assert call("status", dataset.config)[1].startswith("Coloured things: never started")
    code, said = call("run", dataset.config, "--local")
    assert code == 0
    assert f"open {dataset.root}/report.html" in said
    assert re.search(r"scores against label, this run: 4 clusters, ACC \d+\.\d%, NMI \d+\.\d%, ARI \d+\.\d%", said)
    code, said = call("status", dataset.config)
    assert said.startswith("Coloured things: done")
    assert "report          1 of 1 shards done" in said
    assert "have shards to do" not in said
    said = call("status", dataset.config, "--set", "label.top=3")[1]
    assert re.search(r"\d+ of \d+ steps, from vote on, have shards to do: inputs or settings changed", said)
    with Store(dataset.root).lock():
        said = call("status", dataset.config)[1]
        assert said.startswith("Coloured things: running (process")
        assert "map_page: 1/1 shards" in said
        code, said = call("run", dataset.config, "--local")
        assert code == 2
        assert "another run is writing to" in said


def test_failures_exit_with_one_and_say_which_and_why(dataset: Dataset) -> None:
    (dataset.folder / "data/img_emb/img_emb_0.npy").write_bytes(b"broken")
    code, said = call("run", dataset.config, "project", "--local")
    assert code == 1
    assert "continue without them: --allow-failed" in said
    assert "failed: import 00000: ValueError" in said
    assert "failed/import-00000.txt" in said
    assert "failed: import 00000" in call("status", dataset.config)[1]


def test_tables_in_files_are_never_cut_off(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    said = call("run", dataset.config, "import", "--local")[1]
    assert re.search(r"^import +3/3 +0 +160 +160 +0 +ok", said, re.MULTILINE)


def test_wrong_configurations_exit_with_two_before_anything_starts(dataset: Dataset) -> None:
    more = {"search": ["red"], "compare": [dataset.config], "predict": ["new.npy"], "export": ["--format", "csv"]}
    for command in set(golden.command_line()) - {"demo", "init", "schema"}:  # which take no configuration
        code, said = call(command, dataset.config, *more.get(command, []), "--set", "fit.epoch=3")
        assert code == 2
        assert "nearest valid key: fit.epochs" in said
    assert call("run", dataset.config, "lable", "--local")[0] == 2
    code, said = call("run", dataset.config, "--local", "--set", f"root={dataset.config}/run")
    assert code == 2
    assert "cannot write to the run folder" in said
    assert "rows in" not in said  # a table of no steps
    assert not dataset.root.exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code", "state"), [(signal.SIGTERM, 130, "interrupted"), (signal.SIGKILL, -9, "running")]
)
def test_a_run_that_is_stopped_goes_on_where_it_was(dataset: Dataset, number: int, code: int, state: str) -> None:
    program = [sys.executable, "-m", "pipelines", "run", dataset.config, "--local", "--set", "fit.epochs=100000"]
    with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "fit: step" in line:
                process.send_signal(number)
                break
        rest = process.stdout.read()
    assert process.returncode == code, rest
    assert json.loads((dataset.root / "run.json").read_text())["state"] == state
    assert ("run: interrupted" in (dataset.root / "run.log").read_text()) == (state == "interrupted")
    said = call("status", dataset.config)[1]
    assert said.startswith(f"Coloured things: {'stopped' if code < 0 else state}")
    assert re.search(r"it ended at .* UTC in fit: 0/1 shards", said)
    again, said = call("run", dataset.config, "project", "--local")
    assert again == 0
    assert re.search(r"import +3/3 +3 ", said)
