"""The command `ask`: asks whether the least certain pairs of clusters are the same, and keeps the answers in ROOT."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

from cpp.files import filesystem
from cpp.store.object_store import open_store
from pipelines.commands.parts import finished
from pipelines.config.answers import Answer, dump, parse
from pipelines.config.load import Config
from pipelines.engine.stage import Context
from pipelines.stages.artifacts import read_main_clusters, read_tree

FILE = "answers.yaml"  # in the run folder
QUESTION = "same or different? [s]ame, [d]ifferent, Enter: leave out, [q]uit"
SAME = {"s": True, "d": False}


def ask(config: Config, prompt: Callable[[str], str], tell: Callable[[str], None]) -> Iterator[str]:
    """Ask about the pairs of clusters that are least certain, save each answer, and yield lines for the end.

    Pairs that have an answer in the file are not asked about again.

    `prompt` shows a question and returns what was typed; `tell` prints a line. RunStateError if the run is not
    finished, LockedError if another run is writing to its folder.
    """
    part = finished(config, ["clusters", "tree"])
    context = Context.create(part.files, part.files, config.resources)
    rows = read_main_clusters(context)
    path, answers = f"{config.root.rstrip('/')}/{FILE}", _earlier(config)
    answered, n_before = [(answer.a, answer.b) for answer in answers], len(answers)
    pairs = [(rows[a], rows[b], bits) for a, b, bits in read_tree(context).metadata["uncertain"]]
    pairs = [pair for pair in pairs if (pair[0]["examples"], pair[1]["examples"]) not in answered]
    for number, (a, b, bits) in enumerate(pairs, 1):
        tell(
            f"{number} of {len(pairs)}: as one cluster, these two would change the coding length by {bits:+z,.0f} bits"
        )
        tell(_describe(a))
        tell(_describe(b))
        while (typed := prompt(QUESTION).strip().lower()[:1]) not in {*SAME, "q", ""}:
            pass
        if typed == "q":
            break
        if typed:
            names = [a["title"], b["title"]]
            answers.append(Answer(same=SAME[typed], a=a["examples"], b=b["examples"], names=names))
            _save(config, answers)
    if not pairs:
        yield "there are no two clusters left to ask about"
    if answers:
        n_new = len(answers) - n_before
        yield f"{n_new} new answer{'s' * (n_new != 1)}, {len(answers)} in {path}, where they can be corrected"
        yield from _next(config, path if filesystem.is_remote(path) else os.path.abspath(path))


def _describe(row: dict[str, Any]) -> str:
    """A cluster in one line."""
    return f"  {row['title']} ({row['size']:,} images): {', '.join(row['examples'][:5])}"


def _next(config: Config, path: str) -> Iterator[str]:
    """What makes a run follow the answers."""
    named = config.partition.answers
    if named and config.locate(named) == path:
        yield f"to follow them: {config.command_line('run')}"
    else:
        yield f"to follow them, set partition.answers to {path}, and run again: {config.command_line('run')}"


def _earlier(config: Config) -> list[Answer]:
    """The answers that the run folder has so far. ConfigError if the file is damaged."""
    path = open_store(config.root).log(FILE)
    return parse(path.read_bytes(), str(path)) if path.exists() else []


def _save(config: Config, answers: list[Answer]) -> None:
    """Replace the file of answers."""
    store = open_store(config.root)
    with store.lock():
        new = store.root / f".{FILE}.new"
        new.write_text(dump(answers), encoding="utf-8")
        os.replace(new, store.root / FILE)
        store.save()
