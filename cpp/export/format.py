"""The formats of an export. Apart from the code that writes them, so that the command line starts quickly."""

from __future__ import annotations

from enum import StrEnum


class Format(StrEnum):
    """The layout of an export."""

    WEBDATASET = "webdataset"
    IMAGEFOLDER = "imagefolder"
    CSV = "csv"
    PARQUET = "parquet"
    HUGGINGFACE = "huggingface"
    FIFTYONE = "fiftyone"

    @property
    def pictured(self) -> bool:
        """Whether the export holds images, not only a table."""
        return self not in (Format.CSV, Format.PARQUET)
