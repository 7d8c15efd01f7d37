"""The tables of curation that a person opens in a run folder, and the class that describes a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import pyarrow as pa

from cpp.curation.decisions import DROP, KEEP
from cpp.curation.duplicate_groups import DUPLICATES, LEAKS
from cpp.curation.outliers import ODDITIES, OUTLIERS
from cpp.encoding.quality import QUALITY


class Output(NamedTuple):
    """A file or folder in the run folder: what it holds, its schema, and the meanings of columns not in `MEANINGS`."""

    path: str
    meaning: str
    schema: pa.Schema | None = None
    columns: Mapping[str, str] = {}


CURATION = (
    Output("keep/SHARD.parquet", "with `curate`: images that curation keeps", KEEP),
    Output(
        "drop/SHARD.parquet",
        "with `curate`: all other images",
        DROP,
        {"reason": "`duplicate of an image that is kept`, `outlier`, or `beyond the share of its cluster`"},
    ),
    Output(
        "outliers/SHARD.parquet",
        "with `curate`: outlier scores, row for row with `assignments/`",
        OUTLIERS,
        {
            "outlier": "how unusual the image is, 0 to 1: the same as `density`",
            "margin": "share of all images that are less unusual by their margin",
            "density": "the same by the similarity to their nearest images",
            "residual": "the same by the bits they take in their cluster",
            "caption": "the same by how well the caption fits; null if unknown",
        },
    ),
    Output(
        "oddities/SHARD.parquet",
        "with `curate`: the parts of `outliers/` as measured",
        ODDITIES,
        {
            "margin": "cosine",
            "density": "cosine",
            "residual": "bits",
            "caption": "cosine, or the column that `curate.similarity` names",
        },
    ),
    Output(
        "duplicates_page.html, outliers_page.html, balance_page.html, leaks_page.html",
        "with `curate`: what curation found",
    ),
    Output(
        "duplicates/SHARD.parquet",
        "with `curate`: duplicates, row for row with `assignments/`",
        DUPLICATES,
        {
            "group": "number of its group of duplicates; null if it is in none",
            "kept": "whether it is kept; of each group one image is",
            "similarity": "cosine to the kept image of its group, of that one to the most similar of the others",
            "kind": "`bytes`: the same file, `vector`: exactly the same vector, `near`: a similar vector and the same "
            "picture, as far as pictures are compared",
            "kept_key": "name of the image that is kept in its place; null if it is kept",
            "kept_image_shard": "tar, folder or table of that one",
        },
    ),
    Output(
        "leaks.parquet",
        "with `curate.split`: duplicates in different splits, the most similar first; `leaks_page.html` shows them",
        LEAKS,
        {
            "split": "its split",
            "other_key": "name of the other image",
            "other_split": "the split of that one",
            "other_image_shard": "its tar, folder or table",
            "similarity": "cosine of the two",
            "kind": "as in `duplicates/`",
        },
    ),
    Output(
        "quality/SHARD.parquet",
        "with `curate`: quality of the pictures, row for row with `assignments/`",
        QUALITY,
        {
            "width": "pixels; this and the following are null if the picture cannot be read",
            "height": "pixels",
            "brightest": "99th percentile of brightness, 0 to 1",
            "darkest": "5th percentile of brightness, 0 to 1",
            "sharpness": "0 to 1, from its edges; small values are blurred",
            "information": "entropy of its grey values, 0 to 1",
            "dark": "whether it is darker than `curate.quality.dark`",
            "bright": "whether it is brighter than `curate.quality.bright` allows",
            "blurred": "whether it is less sharp than `curate.quality.blurred`",
            "constant": "whether it has less information than `curate.quality.constant`",
            "odd_aspect": "whether its sides differ by more than `curate.quality.aspect` allows",
            "odd_size": "whether it is much smaller or larger than most, by `curate.quality.size`",
        },
    ),
    Output("duplicate_curve.parquet", "with `curate`: images dropped and groups at each threshold"),
    Output("shares.parquet, curation.json", "with `curate`: what each cluster contributes; counts by reason"),
)
