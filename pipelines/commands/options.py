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
