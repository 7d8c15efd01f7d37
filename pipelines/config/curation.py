"""The section `curate` of a configuration: which images leave the data set. Knows no files and no stages."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from cpp.curation.decisions import By
from cpp.curation.duplicate_groups import Keep
from pipelines.config.section import MetadataColumn, Section

PICTURE_THRESHOLD, VECTOR_THRESHOLD = 0.95, 0.995  # RESULTS.md has how they were chosen


class Duplicates(Section):
    threshold: float | None = Field(
        None,
        gt=0,
        le=1,
        description="cosine from which two images count as duplicates; null: 0.95 if pictures are compared, else 0.995",
    )
    lowest: float = Field(0.9, gt=0, le=1, description="cosine from which pairs are searched; the curve begins here")
    pictures: bool = Field(True, description="also compare bytes and signatures of pictures")
    keep: Keep = Field("centroid", description="which image of a group is kept")

    def effective_threshold(self, pictures: bool) -> float:
        """The threshold; its default depends on whether pictures are compared."""
        if self.threshold is not None:
            return self.threshold
        return PICTURE_THRESHOLD if pictures else VECTOR_THRESHOLD

    @model_validator(mode="after")
    def _possible(self) -> Self:
        threshold = self.effective_threshold(pictures=True)
        if threshold < self.lowest:
            raise ValueError(
                f"curate.duplicates: threshold is {threshold:g}, below lowest, {self.lowest:g}, from which pairs "
                f"are searched: set lowest to {threshold:g} or less"
            )
        return self


class Outliers(Section):
    threshold: float | None = Field(
        None, gt=0, lt=1, description="images with a larger score are dropped; null: images are only scored"
    )
    neighbours: int = Field(5, ge=1, description="nearest images whose similarity measures the density")
    sample: int = Field(20_000, ge=2, description="maximum number of images to search for neighbours in")


class Quality(Section):
    dark: float | None = Field(0.32, ge=0, le=1, description="flag: the brightest hundredth of the pixels is darker")
    bright: float | None = Field(0.05, ge=0, le=1, description="flag: the darkest twentieth is nearer to white")
    blurred: float | None = Field(0.29, ge=0, le=1, description="flag: the sharpness is less")
    constant: float | None = Field(0.3, ge=0, le=1, description="flag: the information is less")
    aspect: float | None = Field(0.35, ge=0, le=1, description="flag: the shorter side by the longer one is less")
    size: float | None = Field(3.0, ge=0, description="flag: the size is this many interquartile ranges off")


class Curate(Section):
    similarity: MetadataColumn | None = Field(
        None, description="metadata column with the similarity of image and caption"
    )
    captions: MetadataColumn | None = Field(
        None, description="metadata column with captions, compared by the text tower"
    )
    duplicates: Duplicates | None = Field(Duplicates(), description="near-duplicates; null: no search")
    outliers: Outliers | None = Field(Outliers(), description="outlier scores; null: none")
    quality: Quality | None = Field(Quality(), description="flags of picture quality; null: none")
    split: MetadataColumn | None = Field(
        None, description="metadata column with the split of an image; duplicates between splits are listed"
    )
    size: int | None = Field(None, ge=1, description="images in a balanced subset; null: keep all that remain")
    power: float = Field(0.0, ge=0, description="clusters contribute by this power of their size: 0 evenly")
    by: By = Field("confidence", description="selection within a cluster: confidence, random, or diversity")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.similarity and self.captions:
            raise ValueError(
                "curate: similarity names a column with known similarities, captions one to compute them from: set one "
                "of them to null"
            )
        if self.split and not self.duplicates:
            raise ValueError(
                f"curate: split is {self.split!r} and duplicates is null: leave duplicates out, so that they are "
                "searched, or set split to null"
            )
        if self.duplicates and self.duplicates.keep == "caption" and not (self.similarity or self.captions):
            raise ValueError(
                "curate.duplicates: keep is caption, and it is unknown how well captions fit: set curate.captions to "
                "the metadata column with captions, in a run with `encode`, or curate.similarity to one with known "
                "similarities, such as LAION's similarity"
            )
        return self
