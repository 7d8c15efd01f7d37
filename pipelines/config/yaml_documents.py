"""YAML files whose documents a person writes or a command records: read with checks, and written. Knows no entries."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import yaml
from pydantic import TypeAdapter, ValidationError

from cpp.files import filesystem
from pipelines.config.errors import YAML_ERRORS, ConfigError, invalid_yaml

Document = TypeVar("Document")


def content(path: str) -> bytes:
    """The bytes of a local or remote file. Raises OSError if it cannot be read."""
    with filesystem.open_file(path) as file:
        return bytes(file.read())


def parse(
    text: bytes, path: str, documents: TypeAdapter[list[Document]], sentence: Callable[[Any], str]
) -> list[Document]:
    """The documents of a file at `path` that are not empty.

    ConfigError, naming the file, if it is not valid YAML or a document is not valid. `sentence` describes a fault that
    pydantic reports, whose `loc` begins with the number of the document.
    """
    try:
        return documents.validate_python([part for part in yaml.safe_load_all(text.decode()) if part is not None])
    except ValidationError as error:
        raise ConfigError("\n".join(f"{path}: {sentence(fault)}" for fault in error.errors())) from error
    except YAML_ERRORS as error:
        raise invalid_yaml(path, error) from error


def dump(documents: Sequence[Any], heading: str) -> str:
    """The text of a file with these documents after a comment."""
    return heading + yaml.safe_dump_all(
        documents, sort_keys=False, allow_unicode=True, width=120, default_flow_style=None, explicit_start=True
    )
