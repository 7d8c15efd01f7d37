"""The tables that a person opens in a run folder: schemas, with the meaning of every column, for the documentation.

Columns that depend on the run are written as a pattern: `embedding_2` and so on for further encoders, `cluster_20` for
a layer of 20 clusters, and the metadata of the images. Descriptions are not written into files.
"""

from __future__ import annotations

import pyarrow as pa

from cpp.files.tables import EMBEDDING, REJECTED
from cpp.naming.cluster_table import CLUSTERS, LABELS
from cpp.naming.decided import DECISIONS
from cpp.naming.namer import ASKED, VERDICTS
from cpp.report.examples import EXAMPLES
from cpp.report.heat_maps import ATTENTION
from cpp.report.members import MEMBERS
from cpp.report.thumbnails import THUMBNAILS
from pipelines.stages.curation_schemas import CURATION, Output

METADATA = "..."  # stands for every metadata column of the images
ASSIGNED = pa.schema({"key": "string", "cluster": "int32", "score": "float32", "second": "int32", "margin": "float32"})
WHITE_BOX = pa.schema(
    {
        "column": "string",
        "model": "string",
        "block": "int32",
        "rate_before": "float32",
        "rate": "float32",
        "nonzero": "float32",
        "images": "int32",
    }
)
LOSS = pa.schema(
    {"round": "int32", "n_clusters": "int32", "step": "int32", "warmup": "bool"}
    | dict.fromkeys(["loss", "R", "R_c", "pi_norm2"], "float64")
)
IMAGE = pa.schema({"image_shard": "string", METADATA: "null"})


def vectors(name: str, dim: int) -> pa.Schema:
    """The key and a column of float16 vectors of this dimension: CODES, and FEATURES without metadata."""
    return pa.schema({"key": "string", name: pa.list_(pa.float16(), dim)})


MEANINGS = {  # of columns that several tables have
    "key": "name of the image",
    "row": "its row in `assignments/`, from 0",
    "image_shard": "the tar, folder or table that holds the image `key`; null without images",
    METADATA: "every metadata column of the images; `source_NAME` if results have a column of its name",
}
OUTPUTS = (
    Output(
        "assignments/SHARD.parquet",
        "the cluster of every image; rows are in the order of the input",
        pa.schema([*ASSIGNED, ("excluded", pa.string()), ("cluster_20", pa.int32()), *IMAGE]),
        {
            "cluster": "number of its cluster in the main layer",
            "score": "cosine of its code and the nearest centroid of the cluster",
            "second": "the next nearest cluster; -1 if there is only one",
            "margin": "`score` minus the cosine to `second`; near 0 the image is borderline",
            "excluded": "with decisions that drop clusters or exclude images: why exports, labels and curation leave "
            "it out; null if it stays",
            "cluster_20": "number of its cluster in the layer of 20 clusters; one such column for every further layer",
        },
    ),
    Output(
        "clusters.parquet",
        "the clusters of every layer",
        CLUSTERS,
        {
            "layer": "number of clusters in the layer",
            "main": "whether the layer is that of the column `cluster` in `assignments/`",
            "cluster": "number of the cluster in its layer",
            "parent": "its cluster in the next coarser layer; null in the coarsest",
            "size": "number of images",
            "title": "the text that stands for it everywhere: `leopard`, `bird · lorikeet?` (a general name and the "
            "guess), `lorikeet?` (only a guess), the names of its largest parts in a coarse layer, or `cluster 17`",
            "name": "its name, unique in its layer; null if no word is sure, or without a vocabulary",
            "status": "`named`: the name is the guess; `general`: the name is a more general word; `unsure`: there is "
            "no name; `decided`: a person gave the name. Null without a vocabulary and such names",
            "confidence": "probability that `name` is right, 0 to 1; that of `guess` if the status is `unsure`",
            "guess": "the word with most votes; the name of a `named` cluster before what makes it unique",
            "guess_confidence": "probability that `guess` is right, 0 to 1",
            "general": "the general word of a `general` cluster, before a number that makes it unique; null for others",
            "share": "share of the cluster's votes for the guess and words alike in meaning, 0 to 1",
            "runner_up": "the best word that is not alike",
            "margin": "`share` minus the share of `runner_up`",
            "agree": "share of its images whose own best word is the guess or alike",
            "top": "the words with most votes, the guess first: `word`, `votes` (sum of probabilities), `share`",
            "captions": "words that set its captions apart (class-based TF-IDF): `word`, `score`",
            "examples": "keys of its most typical images",
            "tags": "tags that a person gave it",
            "dropped": "the reason if a person dropped it: its images are excluded; null for others",
            "small_margin": "share of its images with a margin below 0.05; null outside the main layer",
            "coding_rate": "nats per image at the squared distortion of the run; large means diverse",
            "effective_rank": "number of directions that it uses, from 1",
            "rate_share": "its part of the rate reduction",
            "nearest": "the cluster that is most similar in its directions",
            "overlap": "cosine of the two Gram matrices about the mean of all images",
        },
    ),
    Output(
        "decisions.parquet",
        "with decisions: every decision about clusters, in order, and what it does in this run",
        DECISIONS,
        {
            "file": "name of its file",
            "number": "its place in the file, from 1",
            "action": "`rename`, `merge`, `split`, `drop`, `tag` or `not_member`",
            "cluster": "number of the first cluster that it names, in the state that was decided on",
            "title": "title of this cluster at that time",
            "name": "the name that it gives",
            "tag": "the tag that it gives",
            "images": "keys of the images that it excludes",
            "reason": "why it was made",
            "date": "when it was made",
            "by": "who made it",
            "clusters": "numbers of the clusters in the main layer that it is about now",
            "applied": "whether it has an effect",
            "effect": "what it does, as a sentence",
        },
    ),
    Output(
        "labels/SHARD.parquet",
        "a label for every image, row for row with `assignments/`",
        LABELS,
        {
            "label": "name of the image's cluster; null if the cluster is unsure or a decision excludes the image",
            "confidence": "probability that the name is right for this image",
            "word": "the image's own best word",
            "agrees": "whether `word` is alike the cluster's guess, or below its general word",
        },
    ),
    Output(
        "features/SHARD.parquet",
        "unit vectors of the images; the schema's metadata names the encoder and its weights",
        pa.schema([*vectors(EMBEDDING, 512), *IMAGE]),
        {EMBEDDING: "its vector, float16; `embedding_2` and so on of further encoders"},
    ),
    Output(
        "codes/SHARD.parquet",
        "codes of the images, the output of the head",
        vectors("code", 200),
        {"code": "its unit code, float16"},
    ),
    Output(
        "rejected/SHARD.parquet",
        "input rows that are not clustered",
        REJECTED,
        {"row": "number of the row in its shard, from 0", "reason": "why it was rejected"},
    ),
    Output(
        "examples.parquet",
        "members of every cluster that the page shows",
        EXAMPLES,
        {
            "cluster": "number of the cluster in the main layer",
            "kind": "typical (highest score), borderline (least margin) or odd (least score)",
            "rank": "order within its kind, from 0",
            "score": "as in `assignments/`",
            "margin": "as in `assignments/`",
        },
    ),
    Output(
        "members.parquet",
        "members of every cluster that `pages/` list, the most typical first: at most 200,000 of all clusters together",
        MEMBERS,
        {
            "cluster": "number of the cluster in the main layer",
            "score": "as in `assignments/`",
            "margin": "as in `assignments/`",
            "picture": "whether a picture is shown: at most 20,000 of all clusters together",
        },
    ),
    Output(
        "thumbnails/SHARD.parquet",
        "WebP pictures of the images that the page shows",
        THUMBNAILS,
        {
            "large": "the picture; null if it cannot be read, and of those that are only listed",
            "small": "a smaller picture for the map and the list of members",
            "enlarged": "JPEG of at most 480 pixels for the viewer, of at most 10,000 images that are clearly larger",
            "caption": "its caption, if there is one",
            "reason": "why the image was rejected; null for others",
        },
    ),
    Output(
        "attention/SHARD.parquet",
        "with `report.attention`: what the encoder attends to in the pictures of clusters that the page shows",
        ATTENTION,
        {
            "width": "of the upright picture, in pixels",
            "height": "of the upright picture, in pixels",
            "rows": "places from top to bottom",
            "columns": "places from left to right",
            "attention": "a byte for each place, row by row: 255 times the square root of its share of the largest",
            "view": "left, top, right, bottom of the places, as shares of width and height",
        },
    ),
    *CURATION,
    Output(
        "white_box.parquet",
        "with a CRATE encoder: what each of its blocks does to the tokens of a sample of the images",
        WHITE_BOX,
        {
            "column": "the column of its vectors in `features/`",
            "model": "its name",
            "block": "number of the block, from 1",
            "rate_before": "coding rate of the tokens of an image before the block's attention, by the subspaces of "
            "the block, in nats at the squared distortion 0.01",
            "rate": "the same after the attention",
            "nonzero": "share of the entries of the block's sparse code that are not zero",
            "images": "number of images in the sample, over which the values are means",
        },
    ),
    Output("report.html", "the page of the run"),
    Output("pages/", "pages with the members of every cluster, 50 clusters each"),
    Output("enlarged/", "larger pictures for the viewer of the pages, about 30 kB each, where the images have them"),
    Output(
        "plots/",
        "`curve.svg` if K is estimated, `sizes.svg`, `map.svg` and `contact-sheet.png`; of a CRATE encoder "
        "`rates_embedding.svg` and `sparsity_embedding.svg`",
    ),
    Output(
        "columns.parquet", "no rows; its columns are those of the metadata in `assignments/`, with their common types"
    ),
    Output("map_sample.parquet", "a sample of the images in the plane (t-SNE of the codes), as on the main page"),
    Output("map.parquet", "up to `report.map_points` images in the plane, beside those of the sample"),
    Output("map_page.html", "the page with these images: search, and a lasso that selects"),
    Output("confusion.parquet", "with `evaluate`: images of each class in each cluster"),
    Output("scores.json", "with `evaluate`: agreement with the true classes, and the k-means baseline"),
    Output("name_scores.json", "with `evaluate.names`: scores of the names, and the published vote"),
    Output(
        "estimate.json",
        "without `partition.n_clusters`: the estimate of K, its interval, its rounds and the scores by K",
    ),
    Output(
        "loss.parquet",
        "the steps of the training and, without `partition.n_clusters`, of the rounds before it that estimated K",
        LOSS,
        {
            "round": "the last is the training; the codes of each earlier one gave an estimate of K",
            "n_clusters": "K that the codes follow; null in the first round without `partition.n_clusters`",
            "step": "number of the step in its round, from 0",
            "warmup": "whether the loss is the coding rate alone",
            "loss": "the paper's objective, in nats",
            "R": "coding rate of all codes of a batch, in nats",
            "R_c": "coding rate within its groups, in nats; NaN in the warm-up",
            "pi_norm2": "squared norm of the membership, the number of blocks of an ideal one",
        },
    ),
    Output("mined.parquet, phrases/, captions/", "with `label.captions`: phrases of the captions and their counts"),
    Output(
        "namer.parquet",
        "with `label.namer`: the answers of the namer, checked by CLIP",
        VERDICTS,
        {
            "cluster": "number of the cluster in the main layer",
            "guess": "its best word before",
            "name": "the name in the answer; null if there is none",
            "accepted": "whether the name became a word of the vocabulary",
            "reason": "why it was accepted or refused",
            "fit": "similarity of the name and the mean member, both centred; null if unknown",
            "rival": "the best word of the vocabulary without the namer",
            "rival_fit": "`fit` of `rival`",
        },
    ),
    Output(
        "asked.parquet",
        "with `label.namer`: every question, with the answer as it came",
        ASKED,
        {
            "cluster": "number of the cluster in the main layer",
            "guess": "its best word before",
            "question": "the text of the question",
            "pictures": "names of the images that went with it",
            "answer": "the answer; null beyond `label.namer.budget`, and if the server refused the question",
            "seconds": "time until the answer",
            "tokens": "of question and answer, as the server counts them; null if unknown",
            "error": "why the server refused the question; null if it did not",
        },
    ),
    Output("words.parquet", "with `encode`: the words of lists and captions, with their text vectors"),
    Output("cluster_means/, namer_words.parquet", "with `label.namer`: sums by cluster, and the accepted words"),
    Output(
        "votes/, likeness/, matches/, image_mean.safetensors",
        "sums that names are made from, the best word of every image, and the mean of all images",
    ),
    Output("head.safetensors", "the head"),
    Output("groups.safetensors, moments.safetensors", "fine groups: centroids, noise; counts, sums, Gram matrices"),
    Output("tree.safetensors", "the merges, the coding length of every K, and the layers"),
    Output(
        "decisions.yaml", "decisions that `decide` recorded; the run follows them, and `decide --undo` removes the last"
    ),
    Output("answers.yaml", "answers to `ask`, by keys of typical images; `partition.answers` makes a run follow them"),
    Output("README.md", "a data card, by which `datasets` of Hugging Face loads the tables of the folder"),
    Output("run.json, run.log, events.jsonl, failed/", "configuration, versions, times, events and tracebacks"),
)
