"""Every command in the documentation runs: those of the command line on a small run, those of make as a dry run."""

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import typer.main

from pipelines.__main__ import app
from pipelines.config.load import load
from pipelines.run import Run
from tests.golden import documents
from tests.support.appending import new_vectors
from tests.support.datasets import Dataset
from tests.support.runs import call
from tests.support.source_tree import ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
WITH_RAY = ("run", "append", "export", "decide")  # the tests add --local to these


def commands(page: Path) -> list[list[str]]:
    """The lines that begin with `$` in the console blocks of a page, as arguments."""
    blocks = re.findall(r"```console\n(.*?)```", page.read_text(), re.S)
    return [shlex.split(line[2:]) for block in blocks for line in block.splitlines() if line.startswith("$ ")]


def test_pages_have_commands() -> None:
    assert sum(len(commands(page)) for page in PAGES) > 20


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_of_the_page_run(page: Path, dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page's commands in order, in a folder with a finished run of `my.yaml`, vectors, and new images."""
    folder = dataset.folder
    if any(program == "cpp-at-scale" for program, *_ in commands(page)):
        new_vectors(dataset, "more", 2)
        dataset.config.rename(folder / "my.yaml")
        np.save(folder / "new.npy", np.load(folder / "data/img_emb/img_emb_0.npy")[:5])
        assert Run(load(folder / "my.yaml"), local=True).go()
        members = pq.read_table(dataset.root / "clusters.parquet")["examples"][0].as_py()
        decision = {"action": "tag", "clusters": [{"cluster": 0, "members": members}], "tag": "look again"}
        (folder / "decisions.yaml").write_text(json.dumps({"decisions": [decision]}))
        for name in ("a", "b"):
            shutil.copytree(dataset.root, folder / "runs" / name)
    monkeypatch.chdir(folder)
    for program, *arguments in commands(page):
        if program == "cpp-at-scale":
            command, *rest = [word.replace("/data/photographs", str(folder / "data/images")) for word in arguments]
            if command == "init" and "my.yaml" in rest:
                rest = [
                    "copy.yaml" if word == "my.yaml" else word for word in rest
                ]  # it names weights that are not here
            local = ["--local"] if command in WITH_RAY and "--local" not in rest else []
            code, output = call(command, *rest, *local)
            assert code == 0, f"{page.name}: {shlex.join(['cpp-at-scale', *arguments])}\n{output}"
        else:
            assert program == "make", f"{page.name}: no test runs {program}"
            dry_run(arguments)


def dry_run(arguments: list[str]) -> None:
    """What make would run exists, and its command lines are read as such."""
    program = ["make", "--dry-run", "--old-file=.venv/ready", *arguments]
    lines = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    parsers = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    for line in lines:
        if "-m pipelines" in line:
            _, _, _, name, *rest = shlex.split(line)
            parsers[name].make_context(name, rest)


@pytest.mark.parametrize("page", documents.generated(), ids=lambda page: page.stem)
def test_generated_parts_of_the_page_are_up_to_date(page: Path) -> None:
    """`python -m tests.golden` writes them again."""
    assert page.read_text() == documents.generated()[page]
