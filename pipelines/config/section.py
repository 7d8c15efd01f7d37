"""The base class of the sections of a configuration, and the name of a metadata column. Knows no section."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, field_validator

from cpp.files import credentials
from cpp.sources.samples import RESERVED


def _metadata_column(name: str) -> str:
    """ValueError for the name of a column of results, under which metadata are never kept."""
    if name != "key" and RESERVED.fullmatch(name):
        raise ValueError(f"{name!r} is a column of the results, metadata of this name are in source_{name}: name that")
    return name


MetadataColumn = Annotated[str, AfterValidator(_metadata_column)]


class Section(BaseModel, frozen=True, extra="forbid", strict=True):
    """A part of the file. Unknown keys, wrong types, empty texts and credentials are errors; it cannot be changed."""

    @field_validator("*")
    @classmethod
    def _check_texts(cls, value: Any) -> Any:
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str):
                if not text.strip():  # as a path, it would be the current folder
                    raise ValueError(f"is an empty text (value {value!r}): give a value, or leave it out")
                credentials.check_address(text)
        return value
