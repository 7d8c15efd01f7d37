"""The section `curate` of a configuration: which images leave the data set. Knows no files and no stages."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from cpp.curation.decisions import By
from cpp.curation.duplicate_groups import Keep
from pipelines.config.sections import MetadataColumn, Section


class Duplicates(Section):
    threshold: float = Field(0.95, gt=0, le=1, description="cosine from which two images count as duplicates")
    lowest: float = Field(0.85, gt=0, le=1, description="cosine from which pairs are searched; the curve begins here")
    neighbours: bool = Field(False, description="also pairs across clusters, if one image has the other's as second")
    keep: Keep = Field("centroid", description="which image of a group is kept")
    similarity: MetadataColumn | None = Field(
        None, description="keep: caption: metadata column with image-caption similarity"
    )
    bytes: bool = Field(True, description="also compare the bytes of images, which reads them once more")

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.threshold < self.lowest:
            raise ValueError(
                f"curate.duplicates: threshold is {self.threshold:g}, below lowest, {self.lowest:g}, from which pairs "
                f"are searched: set lowest to {self.threshold:g} or less"
            )
        if self.keep == "caption" and self.similarity is None:
            raise ValueError(
                "curate.duplicates: keep is caption and similarity is null: set similarity to the metadata column with "
                "the similarity of image and caption, such as LAION's similarity"
            )
        return self


class Outliers(Section):
    threshold: float | None = Field(
        None, gt=0, lt=1, description="images with a larger score are dropped; null: images are only scored"
    )
    neighbours: int = Field(5, ge=1, description="nearest images whose similarity measures the density")
    sample: int = Field(20_000, ge=2, description="maximum number of images to search for neighbours in")
    similarity: MetadataColumn | None = Field(
        None, description="metadata column with the similarity of image and caption"
    )
    captions: MetadataColumn | None = Field(
        None, description="metadata column with captions, compared by the text tower"
    )

    @model_validator(mode="after")
    def _one_similarity(self) -> Self:
        if self.similarity and self.captions:
            raise ValueError(
                "curate.outliers: similarity names a column with known similarities, captions one to compute them "
                "from: set one of them to null"
            )
        return self


class Curate(Section):
    duplicates: Duplicates | None = Field(Duplicates(), description="near-duplicates; null: no search")
    outliers: Outliers | None = Field(Outliers(), description="outlier scores; null: none")
    size: int | None = Field(None, ge=1, description="images in a balanced subset; null: keep all that remain")
    power: float = Field(0.0, ge=0, description="clusters contribute by this power of their size: 0 evenly")
    by: By = Field("confidence", description="selection within a cluster: confidence, random, or diversity")
