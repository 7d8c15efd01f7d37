"""The sections of a configuration: keys, types, bounds, defaults and descriptions. Knows no files and no stages."""

from __future__ import annotations

import math
import os
import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from cpp.files.tables import EMBEDDING, VectorColumns
from cpp.naming.word_lists import PHOTOGRAPHS
from cpp.rate_reduction import recipes
from cpp.sources import vectors
from pipelines.config.groups import Group
from pipelines.config.section import MetadataColumn, Section

CAPTIONS = "captions"  # in `label.vocabulary`: the phrases of the data set's own captions


class Import(Section):
    path: str = Field(description="folder with img_emb/*.npy and metadata/*.parquet (clip-retrieval's layout)")
    images: str | None = Field(None, description="folder of image tars; tar N has the images of vector file N")
    key: str | None = Field("key", description="metadata column that names an image; null numbers the rows")
    group: Group | None = Field(None, description="groups of images, such as the frames of a video; null: none")
    encoders: list[str] = Field(
        [],
        max_length=len(vectors.FURTHER),
        description="folders with img_emb/*.npy of further encoders of the same images: embedding_2, embedding_3, ...",
    )

    @property
    def columns(self) -> list[str]:
        """The columns of vectors that a run writes."""
        return [EMBEDDING, *(kind.replace("vectors", EMBEDDING) for kind in vectors.FURTHER[: len(self.encoders)])]


class Images(Section):
    format: Literal["webdataset", "folder", "coco", "parquet", "table"]
    path: list[str] = Field(min_length=1, description="tars, one folder, or tables; globs, {0..9} ranges, @lists, URLs")
    annotations: list[str] = Field([], description="coco: captions_*.json and instances_*.json")
    column: str | None = Field(None, description="parquet, table: the column with image bytes or addresses")
    key: str | None = Field(None, description="parquet, table: the column that names an image; null numbers the rows")
    labels: bool = Field(False, description="folder: the name of an image's sub-folder becomes the column `label`")
    group: Group | None = Field(None, description="groups of images, such as the frames of a video; null: none")
    shard_size: int = Field(10_000, ge=1, description="most images in a shard; a tar is always one shard")
    max_bytes: int = Field(1 << 26, ge=1, description="an image with more encoded bytes is rejected")
    max_pixels: int = Field(89_478_485, ge=1, le=178_956_970, description="an image with more pixels is rejected")
    max_aspect: float = Field(100.0, ge=1, description="an image with a larger aspect ratio is rejected")


class Encoder(Section):
    model: str = Field(
        min_length=1, description="name of an open_clip model; or timm/NAME or crate/NAME, which encode images only"
    )
    pretrained: str | None = Field(
        None,
        description="tag of the model's weights, or a file: .safetensors, .pt; null: as the name of the model says",
    )
    pool: Literal["token", "mean"] | None = Field(
        None,
        exclude_if=lambda value: value is None,  # results of configurations that are older than the key stay valid
        description="timm, crate: class token or mean of the tokens of patches as the vector; null: as the model does",
    )
    configs: str | None = Field(None, description="JSON file, or folder of JSON files, with further model definitions")
    precision: Literal["fp32", "bf16", "fp16"] = Field("fp32", description="number format; fp16 needs a GPU")
    compile: bool = Field(False, description="compile the image tower with torch.compile")


class Encode(Encoder):
    encoders: list[Encoder] = Field([], description="further encoders of the images: embedding_2, embedding_3, ...")

    @property
    def columns(self) -> dict[str, Encoder]:
        """The columns of vectors that a run writes, and the encoder of each."""
        more = {f"{EMBEDDING}_{i}": encoder for i, encoder in enumerate(self.encoders, 2)}
        return {EMBEDDING: Encoder(**self.model_dump(exclude={"encoders"})), **more}


def _weighted(columns: VectorColumns) -> VectorColumns:
    """The columns, in the order of their names if they have weights. ValueError for a weight that is not positive."""
    if isinstance(columns, list):
        return columns
    if wrong := {column: weight for column, weight in columns.items() if not (0 < weight < math.inf)}:
        raise ValueError(f"the weights {wrong} must be positive: leave out a column that is not to count")
    return dict(sorted(columns.items()))


class Rows(Section):
    embeddings: Annotated[VectorColumns, AfterValidator(_weighted)] = Field(
        [EMBEDDING],
        min_length=1,
        description="columns of vectors to cluster, joined with equal weights, or with those of {column: weight}",
    )
    max_samples: int = Field(50_000, ge=2, description="maximum number of rows to train on")


class DiscriminantFit(Rows, recipes.Discriminant): ...


class PaperFit(Rows, recipes.Paper):
    max_samples: int = Field(1_000_000, ge=2, description="maximum number of rows to train on")


RECIPES: dict[str, type[Rows]] = {"discriminant": DiscriminantFit, "paper": PaperFit}
Fit = Annotated[
    Annotated[DiscriminantFit, Tag("discriminant")] | Annotated[PaperFit, Tag("paper")],
    Discriminator(
        lambda raw: (
            raw.get("recipe", "discriminant") if isinstance(raw, dict) else getattr(raw, "recipe", "discriminant")
        )
    ),
]


class Partition(Section):
    n_clusters: int | None = Field(None, ge=1, description="K; null estimates it")
    layers: list[Annotated[int, Field(ge=1)]] | Literal["auto"] = Field(
        [], description="K of further, nested layers; auto: coarser ones, where the silhouette has peaks"
    )
    candidates: list[Annotated[int, Field(ge=1)]] = Field(
        [], description="K to compare by a partition each, the published way, in place of the merge tree"
    )
    fine: int | None = Field(
        None, ge=1, description="fine groups of all clusters together; null: one of each, or more if layers need them"
    )
    method: Literal["auto", "kmeans", "spectral"] = Field(
        "auto", description="kmeans on the codes, spectral on their membership; auto: the one of larger silhouette"
    )
    eta: float = Field(0.1, gt=0, description="temperature of the membership for spectral clustering; low is sharp")
    sample: int = Field(100_000, ge=1, description="maximum number of rows to partition")
    landmarks: int = Field(
        8192, ge=1, description="rows for Ward's and spectral clustering; memory is its square to 16,384"
    )
    directions: int | None = Field(32, ge=1, description="leading directions to measure coding lengths in; null: all")
    distortion: float | None = Field(
        None, gt=0, description="squared distortion e of coding lengths; null: measured from the codes"
    )
    answers: str | None = Field(
        None, description="YAML file of answers to `ask`, whether pairs of clusters are the same, which change the cut"
    )

    @model_validator(mode="after")
    def _enough_groups(self) -> Self:
        if self.candidates and (self.n_clusters or self.fine):
            raise ValueError("partition.candidates is a way to choose K: set n_clusters and fine to null")
        largest = max([self.n_clusters or 1, *(self.layers if self.layers != "auto" else [])])
        if self.fine and largest > self.fine:
            raise ValueError(
                f"partition: {self.fine} fine groups are too few for {largest} clusters: set partition.fine to several "
                f"times {largest}, or to null"
            )
        return self


def _variable(name: str) -> str:
    """ValueError for what cannot be the name of an environment variable; it may be a key, so it is not repeated."""
    if not re.fullmatch(r"[A-Z][A-Z0-9_]*", name):
        raise ValueError(
            "must be the name of an environment variable in capitals, such as OPENAI_API_KEY; the API key itself "
            "belongs into that variable and into no file"
        )
    return name


class Namer(Section):
    url: str = Field(
        pattern=r"^https?://[^\s?#]+$", description="OpenAI-compatible API that is asked, as http://localhost:11434/v1"
    )
    model: str = Field(description="name of the model there")
    key: Annotated[str, AfterValidator(_variable)] | None = Field(
        None, description="name of the environment variable with the API key; null: no key"
    )
    pictures: int = Field(0, ge=0, le=8, description="typical pictures of each cluster that are sent; 0: none")
    budget: int | None = Field(
        None, ge=1, description="maximum number of clusters to ask about, the largest first; null: all"
    )


class Label(Section):
    captions: MetadataColumn | None = Field(
        None, description="metadata column with captions, a text or a list of texts"
    )
    vocabulary: list[str] = Field(
        default_factory=lambda before: [PHOTOGRAPHS, CAPTIONS] if before.get("captions") else [PHOTOGRAPHS],
        min_length=1,
        description="folders with names.txt and embeddings.npy; with `encode` also .txt files of words, photographs, "
        "its parts objects, people, scenes, actions, materials and styles, imagenet1k, wordnet, coco, and captions: "
        "phrases of the data set's own captions; by default photographs and, with `captions` set, captions",
    )
    exclude: list[str] = Field([], description="words, or .txt files of words, to remove with their synonyms")
    templates: str | list[str] = Field(
        "openai_imagenet", description="an open_clip set of prompts, or texts with {}, for words without vectors"
    )
    embedding: str = Field(EMBEDDING, description="column of vectors to compare with the words")
    top: int = Field(5, ge=1, description="words that an image votes for, and that are kept for a cluster")
    method: Literal["centred", "paper"] = Field(
        "centred",
        description="centred: votes without the means of images and words; paper: the published vote",
    )
    min_confidence: float = Field(
        0.5, ge=0, le=1, description="a name of lower confidence is null and its cluster unsure; 0 names all"
    )
    namer: Namer | None = Field(None, description="a language model that proposes names; null: nothing is sent")

    @model_validator(mode="after")
    def _captions_named(self) -> Self:
        if CAPTIONS in self.vocabulary and self.captions is None:
            raise ValueError(
                f"label.vocabulary has {CAPTIONS!r} and label.captions is null: set label.captions to the metadata "
                "column that holds captions, such as caption"
            )
        return self


class Evaluate(Section):
    label: MetadataColumn = Field(description="metadata column with the true class; used for scoring only")
    names: MetadataColumn | None = Field(
        None, description="column with the name of the true class, to score names of clusters"
    )
    accepted: str | None = Field(
        None, description="JSON file of the names that people accept for each class: {class: [name, ...]}"
    )
    baseline_sample: int = Field(100_000, ge=1, description="maximum number of rows to train the k-means baseline on")

    @model_validator(mode="after")
    def _classes_named(self) -> Self:
        if self.accepted and self.names is None:
            raise ValueError(
                f"evaluate.accepted is {self.accepted!r} and evaluate.names is null, so that no names are scored: set "
                "evaluate.names to the metadata column with the names of the classes, or accepted to null"
            )
        return self


class Report(Section):
    map_points: int = Field(200_000, ge=1, le=1_000_000, description="maximum number of images on the page of the map")
    images: bool = Field(True, description="show pictures; false for images that must not leave their shards")
    attention: bool = Field(
        False, description="show what the encoder attends to: encodes the pictures shown, up to 16 a cluster, again"
    )


class Resources(Section):
    ray_address: str | None = Field(
        None,
        pattern=r"^(auto|(ray://)?[^/:\s]+:\d+)$",
        description="Ray cluster to join: auto, HOST:6379 or ray://HOST:10001; null: start a local Ray instance",
    )
    workers: int = Field(default_factory=lambda: os.cpu_count() or 1, ge=1, description="shards processed at a time")
    cpus: int = Field(1, ge=1, description="threads of a worker")
    gpus: float = Field(0, ge=0, description="GPUs of a worker; a fraction such as 0.25 shares one")
    cpu_workers: int | None = Field(
        None, ge=1, description="with gpus: one-CPU workers for steps without a GPU; null: workers x cpus"
    )
    batch: int = Field(8192, ge=1, description="rows on the device at a time")
    image_batch: int = Field(64, ge=1, description="images on the device at a time")
    prefetch: int = Field(4, ge=1, description="files that steps over many files read ahead")

    @model_validator(mode="after")
    def _two_sizes(self) -> Self:
        if self.cpu_workers and not self.gpus:
            raise ValueError("resources.cpu_workers is for runs with GPUs, and resources.gpus is 0: set it to null")
        return self

    def workers_for(self, gpu: bool) -> tuple[int, int, float]:
        """The number of workers for steps with or without a GPU, and the CPUs and GPUs of each."""
        if gpu or not self.gpus:
            return self.workers, self.cpus, self.gpus
        return self.cpu_workers or self.workers * self.cpus, 1, 0.0
