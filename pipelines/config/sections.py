"""The sections of a configuration: what each step is told, with its bounds and its defaults. Knows no files."""

from __future__ import annotations

import os
from typing import Annotated, Literal, Self

from pydantic import BaseModel, Discriminator, Field, Tag, model_validator

from cpp.clustering.partition import Method
from cpp.curation.decisions import By
from cpp.curation.duplicate_groups import Keep
from cpp.files.tables import EMBEDDING
from cpp.naming import names as naming
from cpp.rate_reduction import fit

CAPTIONS = "captions"  # in `label.vocabulary`: the phrases of the data set's own


class Section(BaseModel, frozen=True, extra="forbid", strict=True):
    """A part of the file: unknown keys and wrong types are errors, and nothing changes after reading."""


class Import(Section):
    path: str = Field(description="folder with img_emb/*.npy and metadata/*.parquet (clip-retrieval's layout)")
    images: str | None = Field(None, description="folder of image tars; number N holds the pictures of vector file N")
    key: str | None = Field("key", description="metadata column that names an image; null numbers the rows")


class Images(Section):
    format: Literal["webdataset", "folder", "coco", "parquet", "table"]
    path: list[str] = Field(min_length=1, description="tars, one folder, or tables; globs, {0..9} ranges, @lists, URLs")
    annotations: list[str] = Field([], description="coco: captions_*.json and instances_*.json")
    column: str | None = Field(None, description="parquet, table: the column with bytes or addresses")
    key: str | None = Field(None, description="parquet, table: the column that names an image; null numbers the rows")
    labels: bool = Field(False, description="folder: the sub-folder that an image is in becomes the column `label`")
    shard_size: int = Field(10_000, ge=1, description="images in a shard; a tar is one as it is")
    max_bytes: int = Field(1 << 26, ge=1, description="an image of more encoded bytes is rejected")
    max_pixels: int = Field(89_478_485, ge=1, le=178_956_970, description="an image of more pixels is rejected")
    max_aspect: float = Field(100.0, ge=1, description="an image longer and thinner than this is rejected")


class Encoder(Section):
    model: str = Field(min_length=1, description="a name that open_clip knows")
    pretrained: str = Field(min_length=1, description="a tag of the model, or a file: .safetensors, .pt")
    configs: str | None = Field(
        None, description="JSON file, or folder of them, with models to make known to open_clip"
    )
    precision: Literal["fp32", "bf16", "fp16"] = Field("fp32", description="fp16 only on a GPU")
    compile: bool = Field(False, description="torch.compile of the image tower")


class Encode(Encoder):
    encoders: list[Encoder] = Field([], description="more encoders of the same images: embedding_2, embedding_3, ...")

    @property
    def columns(self) -> dict[str, Encoder]:
        """The columns of vectors that a run writes, and the encoder of each."""
        more = {f"{EMBEDDING}_{i}": encoder for i, encoder in enumerate(self.encoders, 2)}
        return {EMBEDDING: Encoder(**self.model_dump(exclude={"encoders"})), **more}


class Rows(Section):
    embeddings: list[str] = Field(
        [EMBEDDING], min_length=1, description="columns of vectors that are clustered; several are joined"
    )
    max_samples: int = Field(50_000, ge=2, description="at most so many rows are trained on")


class DiscriminantFit(Rows, fit.Discriminant): ...


class PaperFit(Rows, fit.Paper):
    max_samples: int = Field(1_000_000, ge=2, description="at most so many rows are trained on")


RECIPES = {"discriminant": DiscriminantFit, "paper": PaperFit}
Fit = Annotated[
    Annotated[DiscriminantFit, Tag("discriminant")] | Annotated[PaperFit, Tag("paper")],
    Discriminator(lambda raw: raw.get("recipe", "discriminant") if isinstance(raw, dict) else raw.recipe),
]


class Partition(Section):
    n_clusters: int | None = Field(None, ge=1, description="K; null: that of the least coding length")
    layers: list[Annotated[int, Field(ge=1)]] | Literal["auto"] = Field(
        [], description="K of further layers, coarser or finer, nested; auto: coarser ones where the tree shows them"
    )
    candidates: list[Annotated[int, Field(ge=1)]] = Field(
        [], description="K to try, each partitioned anew: the published way to K, in place of the tree's"
    )
    fine: int | None = Field(
        None, ge=1, description="groups that clusters are merged from; null: n_clusters, else of 8 rows, 2048 at most"
    )
    method: Method = Field(
        "auto", description="kmeans on z, spectral on the membership, or auto: which silhouette says"
    )
    eta: float = Field(0.1, gt=0, description="temperature of the membership for spectral: low is sharp")
    sample: int = Field(100_000, ge=1, description="at most so many rows are partitioned")
    landmarks: int = Field(8192, ge=1, description="of these, those that Ward and spectral see; takes their square")
    directions: int | None = Field(32, ge=1, description="leading directions that lengths are measured in; null: all")
    distortion: float | None = Field(None, gt=0, description="squared distortion e of lengths; null: the noise of z")

    @model_validator(mode="after")
    def _enough_groups(self) -> Self:
        if self.candidates and (self.n_clusters or self.fine):
            raise ValueError("partition.candidates is a way to find K: set n_clusters and fine to null")
        groups = self.fine or self.n_clusters
        most = max([self.n_clusters or 1, *(self.layers if self.layers != "auto" else [])])
        if groups and most > groups:
            raise ValueError(
                f"partition: there are {groups} fine groups, too few for {most} clusters: set partition.fine to "
                f"several times {most}"
            )
        return self


class Label(Section):
    vocabulary: list[str] = Field(
        min_length=1,
        description="folders with names.txt and embeddings.npy; with `encode` also .txt files of words, imagenet1k, "
        "wordnet, coco, and captions: the phrases of the data set's own",
    )
    exclude: list[str] = Field([], description="words that are no names, nor what means the same; .txt files of them")
    captions: str | None = Field(None, description="metadata column with captions, a text or a list of texts")
    templates: str | list[str] = Field(
        "openai_imagenet", description="of open_clip, or texts with {}: for words that come without vectors"
    )
    embedding: str = Field(EMBEDDING, description="column of vectors that is matched with the words")
    top: int = Field(5, ge=1, description="words that an image votes for, and that are kept for a cluster")
    method: naming.Method = Field("lift", description="how names are found: lift, ours; or paper, the published vote")
    min_confidence: float = Field(
        0.5, ge=0, le=1, description="a name that is less sure is null, and its cluster unsure; 0 names all"
    )

    @model_validator(mode="after")
    def _captions_named(self) -> Self:
        if CAPTIONS in self.vocabulary and self.captions is None:
            raise ValueError(
                f"label.vocabulary has {CAPTIONS!r} and label.captions is null: name there the metadata column that "
                "has them, such as caption"
            )
        return self


class Evaluate(Section):
    label: str = Field(description="metadata column with the true class; used to score and for nothing else")
    names: str | None = Field(None, description="column with the true class's name, to score the names of clusters by")
    baseline_sample: int = Field(100_000, ge=1, description="at most so many rows train the k-means baseline")


class Duplicates(Section):
    threshold: float = Field(0.95, gt=0, le=1, description="cosine of their vectors from which two images are one")
    lowest: float = Field(0.85, gt=0, le=1, description="cosine from which pairs are looked for: the curve begins here")
    neighbours: bool = Field(False, description="pairs also across clusters, where one is the second of the other")
    keep: Keep = Field("centroid", description="which image of a group is kept")
    similarity: str | None = Field(None, description="keep: caption: the metadata column that says how well it matches")
    bytes: bool = Field(True, description="hash the bytes of images too, which reads them once more")

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.threshold < self.lowest:
            raise ValueError(
                f"curate.duplicates: threshold is {self.threshold:g} and pairs are looked for from lowest, "
                f"{self.lowest:g}, on: set lowest to {self.threshold:g} or less"
            )
        if self.keep == "caption" and self.similarity is None:
            raise ValueError(
                "curate.duplicates: keep is caption and similarity is null: name there the metadata column with the "
                "similarity of image and caption, such as LAION's similarity"
            )
        return self


class Outliers(Section):
    threshold: float | None = Field(
        None, gt=0, lt=1, description="images of a larger score leave; null: none does, they are only scored"
    )
    neighbours: int = Field(5, ge=1, description="nearest images whose similarity is the density around one")
    sample: int = Field(20_000, ge=2, description="images that neighbours are looked for among, at most")
    similarity: str | None = Field(None, description="metadata column that says how well the caption fits the image")
    captions: str | None = Field(None, description="metadata column with captions, compared by the text tower")

    @model_validator(mode="after")
    def _one_similarity(self) -> Self:
        if self.similarity and self.captions:
            raise ValueError(
                "curate.outliers: similarity names a column that is known and captions one that is encoded to know it: "
                "set one of them to null"
            )
        return self


class Curate(Section):
    duplicates: Duplicates | None = Field(Duplicates(), description="near-duplicates; null: none are looked for")
    outliers: Outliers | None = Field(Outliers(), description="how odd images are; null: not looked at")
    size: int | None = Field(None, ge=1, description="images of a balanced subset; null: all that stay are kept")
    power: float = Field(0.0, ge=0, description="clusters give by this power of their size: 0 evenly, 1 in proportion")
    by: By = Field(
        "confidence", description="which of a cluster: confidence the surest, random, or diversity, far from each other"
    )


class Report(Section):
    images: bool = Field(True, description="show pictures; false for images that must not leave their shards")


class Resources(Section):
    ray_address: str | None = Field(
        None,
        pattern=r"^(auto|(ray://)?[^/:\s]+:\d+)$",
        description="a Ray cluster to join: auto, HOST:6379 or ray://HOST:10001; null: a Ray of our own",
    )
    workers: int = Field(default_factory=lambda: os.cpu_count() or 1, ge=1, description="shards worked on at a time")
    cpus: int = Field(1, ge=1, description="threads of a worker")
    gpus: float = Field(0, ge=0, description="GPUs of a worker; a part such as 0.25 shares one")
    cpu_workers: int | None = Field(
        None, ge=1, description="with gpus: workers, of one CPU, of steps that need none; null: workers x cpus"
    )
    batch: int = Field(8192, ge=1, description="rows on the device at a time")
    image_batch: int = Field(64, ge=1, description="images on the device at a time")
    prefetch: int = Field(4, ge=1, description="files read ahead by steps that read many")

    @model_validator(mode="after")
    def _two_sizes(self) -> Self:
        if self.cpu_workers and not self.gpus:
            raise ValueError("resources.cpu_workers is for runs with GPUs, and resources.gpus is 0: set it to null")
        return self

    def workers_for(self, gpu: bool) -> tuple[int, int, float]:
        """Workers for steps that need a GPU, or for those that do not, and the CPUs and GPUs of each."""
        if gpu or not self.gpus:
            return self.workers, self.cpus, self.gpus
        return self.cpu_workers or self.workers * self.cpus, 1, 0.0
