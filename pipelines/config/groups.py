"""Groups of images that belong together, such as the frames of a video. Knows no files and no stages."""

from __future__ import annotations

import re
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from pipelines.config.section import MetadataColumn, Section


def _pattern(text: str) -> str:
    """ValueError for what is no regular expression, or has several groups."""
    try:
        groups = re.compile(text).groups
    except re.error as error:
        raise ValueError(f"is {text!r}, which is no regular expression ({error})") from None
    if groups > 1:
        raise ValueError(f"is {text!r}, which has {groups} groups: keep one, and write the others as (?:...)")
    return text


class Group(Section):
    column: MetadataColumn | None = Field(None, description="metadata column that names the group of an image")
    pattern: Annotated[str, AfterValidator(_pattern)] | None = Field(
        None, description="or a regular expression for the key: its group, or the whole match, names the group"
    )
    keep: int = Field(
        10,
        ge=1,
        description="most images of a group in the sample that is fitted and in a balanced subset",
    )

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if (self.column is None) == (self.pattern is None):
            raise ValueError(
                "group: give either column, a metadata column such as video, or pattern, a regular expression for the "
                "key such as ^(.*)_frame"
            )
        return self
