"""The file of a person's answers to `ask`: whether pairs of clusters are the same. `partition.answers` names it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import Field, TypeAdapter

from pipelines.config import yaml_documents
from pipelines.config.section import Section

HEADING = """\
# Answers to `ask`: whether two clusters are the same. `a` and `b` are keys of typical images of each, so that an answer
# holds for clusters of later runs too. The configuration key partition.answers makes a run follow them.
"""


class Answer(Section):
    """Whether two groups of images, given by keys, belong in one cluster; `names` are their titles at that time."""

    same: bool
    a: list[str] = Field(min_length=1)
    b: list[str] = Field(min_length=1)
    names: list[str] = Field(default_factory=list)


_DOCUMENTS = TypeAdapter(list[list[Answer]])


def read(path: str) -> list[Answer]:
    """Read the answers. ConfigError, naming the file and the entry, if it is no list of answers."""
    return parse(yaml_documents.content(path), path)


def parse(content: bytes, path: str) -> list[Answer]:
    """The answers in the content of a file at `path`. ConfigError as in `read`."""
    return [answer for document in yaml_documents.parse(content, path, _DOCUMENTS, _fault) for answer in document]


def _fault(fault: Any) -> str:
    """A sentence about a fault: the entry and key, the value and the fix."""
    place = ".".join(str(part) for part in fault["loc"][1:]) or "the file"
    return (
        f"{place}: {fault['msg']}, and is {fault['input']!r}: answers are a list of entries with `same: true` or "
        "`false`, and `a` and `b`, lists of keys in quotation marks"
    )


def dump(answers: Sequence[Answer]) -> str:
    """The text of the file."""
    return yaml_documents.dump([[answer.model_dump() for answer in answers]], HEADING)
