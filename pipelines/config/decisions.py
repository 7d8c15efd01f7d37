"""Files of decisions about clusters: rename, merge, split, drop, tag, or images that do not belong. Knows no results.

Clusters are named by their number in the `state` that was decided on, and by keys of their typical images, by which
they are recognised in another state. Files of one state form a round: they must not contradict each other
(`pipelines.config.decision_conflicts`). A round follows the rounds before it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from datetime import date, datetime
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import BeforeValidator, Field, TypeAdapter, model_validator

from cpp.store.results import fingerprint
from pipelines.config import yaml_documents
from pipelines.config.section import Section

RECORD = "decisions.yaml"  # in the run folder: the files that the command `decide` has recorded
HEADING = (
    "# Decisions about clusters that `decide` recorded. The run follows them; `decide --undo` removes the last file.\n"
)
NEEDS = {"rename": "name", "tag": "tag", "not_member": "images"}  # the key that an action needs
TAKES = {**{key: {action} for action, key in NEEDS.items()}, "name": {"rename", "merge"}}  # the actions that take a key
CUTS = ("merge", "split")

Action = Literal["rename", "merge", "split", "drop", "tag", "not_member"]
Day = Annotated[str, BeforeValidator(lambda value: value.isoformat() if isinstance(value, date | datetime) else value)]


class Cluster(Section):
    """A cluster: its number and title in the state that was decided on, and keys of its typical images."""

    cluster: int = Field(ge=0)
    members: list[str] = Field(min_length=1)
    title: str | None = None

    def __str__(self) -> str:
        return f"cluster {self.cluster}" + (f" ({self.title})" if self.title else "")


class Decision(Section):
    """A decision about one cluster, or for a merge about two or more. `images` are keys of a cluster's images."""

    action: Action
    clusters: list[Cluster] = Field(min_length=1)
    name: str | None = None
    tag: str | None = None
    images: list[str] = Field([])
    reason: str | None = None
    date: Day | None = None
    by: str | None = None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        """ValueError if a key of the action is missing, or one does not belong to it."""
        needed = NEEDS.get(self.action)
        if needed and not getattr(self, needed):
            raise ValueError(f"{self.action} needs the key `{needed}`: add it")
        for key, actions in TAKES.items():
            if getattr(self, key) and self.action not in actions:
                raise ValueError(
                    f"{self.action} has the key `{key}`, which is for {' and '.join(sorted(actions))}: remove it"
                )
        if self.action == "merge" and len({cluster.cluster for cluster in self.clusters}) < 2:
            raise ValueError("merge needs two or more different clusters: add one to `clusters`")
        if self.action != "merge" and len(self.clusters) > 1:
            raise ValueError(
                f"{self.action} is about one cluster and names {len(self.clusters)}: write a decision for each"
            )
        return self


class DecisionFile(Section):
    """The decisions of one file, in order. `file` is its name, `state` that of the clusters that were decided on."""

    file: str | None = None
    run: str | None = None
    state: str | None = None
    decisions: list[Decision] = Field(min_length=1)


class Entry(NamedTuple):
    """A decision with its place: the name of its file, and its number there, from 1."""

    file: str
    number: int
    decision: Decision

    @property
    def place(self) -> str:
        """The file and the decision, for messages."""
        by = f", by {self.decision.by}" if self.decision.by else ""
        return f"{self.file}, decision {self.number} ({self.decision.action}{by})"


Round = list[list[Entry]]  # the entries of each file of one state
_FILES = TypeAdapter(list[DecisionFile])


def read(path: str) -> list[DecisionFile]:
    """Read the documents of a file. ConfigError, naming the file, the decision and the key, if it is invalid."""
    return parse(yaml_documents.content(path), path)


def parse(content: bytes, path: str) -> list[DecisionFile]:
    """The documents in the content of a file at `path`. ConfigError as in `read`."""
    files = yaml_documents.parse(content, path, _FILES, _fault)
    return [file if file.file else file.model_copy(update={"file": os.path.basename(path)}) for file in files]


def _fault(fault: Any) -> str:
    """A sentence about a fault: the decision, the key, the value and the fix."""
    parts = list(fault["loc"])
    where = f"decision {parts[2] + 1}: " if len(parts) > 2 and parts[1] == "decisions" else ""
    key = ".".join(str(part) for part in parts[3 if where else 1 :])
    if fault["type"] == "value_error":
        return f"{where}{key and f'{key}: '}{fault['ctx']['error']}"
    quotes = ": put the text in quotation marks" if fault["type"] == "string_type" else ""
    return f"{where}{key or 'the file'}: {fault['msg']}, and is {fault['input']!r}{quotes}"


def dump(files: Sequence[DecisionFile]) -> str:
    """The text of the record in a run folder."""
    return yaml_documents.dump([file.model_dump(exclude_defaults=True) for file in files], HEADING)


def rounds(files: Sequence[DecisionFile]) -> list[Round]:
    """The rounds in the order of their first file. A file without a state is a round by itself."""
    by_state: dict[object, Round] = {}
    for place, file in enumerate(files):
        entries = [Entry(str(file.file), number, decision) for number, decision in enumerate(file.decisions, 1)]
        by_state.setdefault(file.state or place, []).append(entries)
    return list(by_state.values())


def cuts(all_rounds: Sequence[Round]) -> list[list[Entry]]:
    """The merges and splits of every round, without rounds that have none."""
    of_rounds = ([entry for entry in entries_of(each) if entry.decision.action in CUTS] for each in all_rounds)
    return [entries for entries in of_rounds if entries]


def entries_of(one: Round) -> Iterator[Entry]:
    """The entries of a round in order."""
    return (entry for file in one for entry in file)


def rounds_fingerprint(all_rounds: Sequence[Round]) -> str:
    """The fingerprint of all decisions, with all that they say."""
    return fingerprint(
        *([(e.file, e.number, e.decision.model_dump()) for e in entries_of(each)] for each in all_rounds)
    )


def cuts_fingerprint(of_rounds: Sequence[Sequence[Entry]]) -> str:
    """The fingerprint of merges and splits: what they do, and not why or when."""
    return fingerprint(
        *(
            [(e.decision.action, [(c.cluster, c.members) for c in e.decision.clusters]) for e in entries]
            for entries in of_rounds
        )
    )
