"""Arguments and options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

ConfigFile = Annotated[str, typer.Argument(metavar="CONFIG", help="YAML file of the run, or its run folder.")]
Steps = Annotated[list[str] | None, typer.Argument(metavar="[STEP]...", help="Only these steps and what they need.")]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override one key, such as label.top=3.")
]
Local = Annotated[bool, typer.Option("--local", help="Work in this process, without Ray.")]
AllowFailed = Annotated[bool, typer.Option("--allow-failed", help="Continue without the shards that failed.")]
MinConfidence = Annotated[
    float | None, typer.Option("--min-confidence", min=0, max=1, help="Only images of this confidence or more.")
]
PerCluster = Annotated[
    int | None, typer.Option("--per-cluster", min=1, help="At most this many images of each cluster, the surest.")
]
UseGuess = Annotated[bool, typer.Option("--use-guess", help="Name general and unsure clusters by their guess.")]
NewShards = Annotated[
    list[str] | None, typer.Option("--shards", help="New inputs, written as images.path or import.path.")
]
NewImages = Annotated[
    str | None, typer.Option("--images", help="Folder with the tars of new vectors, as import.images.")
]
