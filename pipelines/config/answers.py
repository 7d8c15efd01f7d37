"""The file of a person's answers to `ask`: whether pairs of clusters are the same. `partition.answers` names it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import yaml
from pydantic import Field, TypeAdapter, ValidationError

from cpp.files import filesystem
from pipelines.config.errors import YAML_ERRORS, ConfigError, invalid_yaml
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


_ANSWERS = TypeAdapter(list[Answer])


def read(path: str) -> list[Answer]:
    """Read the answers. ConfigError, naming the file and the entry, if it is no list of answers."""
    with filesystem.open_file(path) as file:
        content = file.read()
    return parse(content, path)


def parse(content: bytes, path: str) -> list[Answer]:
    """The answers in the content of a file at `path`. ConfigError as in `read`."""
    try:
        entries: Any = yaml.safe_load(content.decode())
        return _ANSWERS.validate_python([] if entries is None else entries)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the file"
        raise ConfigError(
            f"{path}: {place}: {first['msg']}, and is {first['input']!r}: answers are a list of entries with "
            "`same: true` or `false`, and `a` and `b`, lists of keys in quotation marks"
        ) from error
    except YAML_ERRORS as error:
        raise invalid_yaml(path, error) from error


def dump(answers: Sequence[Answer]) -> str:
    """The text of the file."""
    entries = [answer.model_dump() for answer in answers]
    return HEADING + yaml.safe_dump(entries, sort_keys=False, allow_unicode=True, width=120, default_flow_style=None)
