"""A run: the steps in order, each over the shards that are not done, with everything counted, logged and published."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from cpp.files import filesystem, scratch, tables
from cpp.files.integrity import damage
from cpp.files.tables import Counts
from cpp.store.connect import open_store
from cpp.store.results import File
from pipelines.config.errors import ConfigError
from pipelines.config.load import Config
from pipelines.engine import event_log, machine
from pipelines.engine.executor import OpenError, Result, run_in_process
from pipelines.engine.inputs import input_files
from pipelines.engine.plan import Step, plan_step, upstream
from pipelines.engine.progress import Progress
from pipelines.engine.row_counts import AccountingError, DamagedError, RowAccounting
from pipelines.engine.run_record import read_run_record
from pipelines.engine.shard_index import FilePaths
from pipelines.engine.stage import Given, Stage
from pipelines.graph import pipeline

if TYPE_CHECKING:
    from pipelines.ray_backend.pool import Pool


@dataclass
class Outcome:
    """How a step went. `failed` are the shards without a result, `waits_for` the step that kept it from starting."""

    shards: int = 0
    done: int = 0
    reused: int = 0
    counts: Counts | None = None
    failed: list[Result] = field(default_factory=list)
    waits_for: str | None = None

    @property
    def ok(self) -> bool:
        return not self.failed and self.waits_for is None


def in_ranks(config: Config, step: str) -> bool:
    """Whether all workers do a step together. The paper's training gains by it where each has a GPU of its own.

    Ranks on several nodes need a folder that all of them see, which a bucket is not.
    """
    r = config.resources
    return (
        step == "fit"
        and config.fit.recipe == "paper"
        and r.workers > 1
        and r.gpus >= 1
        and not (r.ray_address and filesystem.is_remote(config.root))
    )


class Run:
    """One run of a configuration. `outcomes` says how each step went, in order."""

    def __init__(
        self,
        config: Config,
        names: Sequence[str] = (),
        local: bool = False,
        allow_failed: bool = False,
        start: tuple[Mapping[str, Mapping[str, File]], Mapping[str, Stage]] | None = None,
    ) -> None:
        """Reads what is there to read and checks it: ConfigError names what is wrong.

        With `start` it is of these files and steps in place of those of the configuration.
        """
        self.config, self.local, self.allow_failed = config, local, allow_failed
        self.store = open_store(config.root)
        self.files: dict[str, Mapping[str, File]] = dict(start[0]) if start else dict(input_files(config))
        stages = start[1] if start else pipeline(config, self.files)
        self.stages = {name: stages[name] for name in upstream(list(names), stages)}
        self._all = self.stages.keys() == stages.keys()
        self.outcomes: dict[str, Outcome] = {}
        self.shown: str | None = None  # when the complete run started whose results the stable names show
        self._accounts = RowAccounting(self.store)
        self._pool: Pool | None = None
        if local and config.resources.gpus and not torch.cuda.is_available():
            raise ConfigError(f"resources.gpus is {config.resources.gpus:g} and this machine has no GPU: set it to 0")

    @property
    def ok(self) -> bool:
        return all(outcome.ok for outcome in self.outcomes.values())

    def go(self) -> bool:
        """Bring the steps up to date. True where every one is complete.

        Raises LockedError or PermissionError before anything starts, AccountingError where rows do not add up.
        """
        with ExitStack() as stack:
            stack.enter_context(self.store.lock())
            shutil.rmtree(self.store.root / "failed", ignore_errors=True)
            self._stack = stack
            self.progress = stack.enter_context(Progress(self.store.root))
            started, state = event_log.utc_now(), "interrupted"
            self.shown = read_run_record(self.store).get("shown")
            self._record("running", started)
            try:
                for name, stage in self.stages.items():
                    self.outcomes[name] = self._step(name, stage)
                    if not self.shown:  # clusters of one run would not fit the assignments of another
                        self._show(stage)
                self._say_what_waits()
                state = "done" if self.ok else "failed"
                if self.ok or self.allow_failed:
                    for stage in self.stages.values() if self.shown else ():
                        self._show(stage)
                    self.shown = started if self._all else self.shown
            except Exception:
                state = "failed"
                raise
            finally:
                self.progress.line(f"run: {state}")
                self._record(state, started)
        return self.ok

    def _step(self, name: str, stage: Stage, again: bool = False) -> Outcome:
        if waits_for := self._incomplete(stage):
            return Outcome(waits_for=waits_for)
        planned = self._sound(plan_step(name, stage, self.files, self.store))
        outcome = Outcome(len(planned.names), reused=len(planned.done))
        errors: dict[str, Result] = {}
        if not planned.complete:
            errors = self._execute(planned)
            planned = plan_step(name, stage, self.files, self.store)
        outcome.done = len(planned.done)
        for task in planned.todo:
            outcome.failed.append(errors[task.shard])
            self._quarantine(name, errors[task.shard])
        try:
            outcome.counts = self._accounts.check(planned)
        except DamagedError as error:
            if again:  # what was made just now cannot be read: to make it once more would not help
                raise
            for product, path, why in error.files:
                self.progress.line(f"{name}: {path} is damaged ({why}): it is made again")
                self.store.remove(product, [os.path.basename(path)])
            return self._step(name, stage, again=True)
        self.files |= planned.results()
        return outcome

    def _sound(self, planned: Step) -> Step:
        """A step that runs once, to be done again where one of its files is damaged; of shards the accounting tells."""
        if planned.stage.each or not planned.complete:
            return planned
        outputs = planned.tasks[0].outputs
        for path in (outputs[product.name] for product in planned.stage.products if product.suffix):
            if wrong := damage(path):
                self.progress.line(f"{planned.name}: {path} is damaged ({wrong}): it is made again")
                return replace(planned, exists=np.zeros_like(planned.exists))
        return planned

    def _incomplete(self, stage: Stage) -> str | None:
        """The step that keeps a stage from starting: it failed, or it is not even with --allow-failed of use."""
        needs = {*stage.each, *stage.whole}
        for name, outcome in self.outcomes.items():
            useless = not outcome.ok and not (self.allow_failed and outcome.done)
            if useless and needs & {product.name for product in self.stages[name].products}:
                return outcome.waits_for or name
        return None

    def _say_what_waits(self) -> None:
        for failed in dict.fromkeys(outcome.waits_for for outcome in self.outcomes.values() if outcome.waits_for):
            waiting = [name for name, outcome in self.outcomes.items() if outcome.waits_for == failed]
            self.progress.line(f"{failed} is not complete, so these were not started: {', '.join(waiting)}")

    def _execute(self, planned: Step) -> dict[str, Result]:
        """Work on the shards that are not done. Returns the failed ones that said why."""
        r = self.config.resources
        joined = not self.local and in_ranks(self.config, planned.name)
        threads = r.cpus
        if not planned.stage.each and not joined:  # a step that runs once has the machine to itself
            threads *= r.workers
        whole = {kind: FilePaths(self.files[kind]) for kind in planned.stage.whole if self.files.get(kind)}
        device = "cuda" if r.gpus and planned.stage.gpu else "cpu"
        cache = None if filesystem.is_remote(self.config.root) else self.store.root / "cache"
        given = Given(whole, threads, device, r.batch, r.image_batch, r.prefetch, cache)
        self.store.save()  # the report reads the events
        todo, products = planned.todo, next(iter(planned.outputs.values()))
        self.progress.start_step(planned.name, len(todo), len(planned.done))
        errors = {}
        try:
            if self.local:
                results: Iterator[Result] = run_in_process(planned.stage, given, todo, self.store)
            else:
                workers = self._workers()
                results = (workers.results_from_ranks if joined else workers.results)(planned.stage, given, todo)
            for result in results:
                self.progress.finish_shard(result, products[result.shard].fingerprint)
                if result.error:
                    errors[result.shard] = result
        except OpenError as error:
            said = f"the step could not start: {str(error).splitlines()[-1]}"
            self.progress.line(f"{planned.name}: FAILED: {said}")
            errors = {task.shard: Result(task.shard, 0.0, None, said, str(error)) for task in todo}
        finally:
            self.progress.finish_step()
        return errors

    def _workers(self) -> Pool:
        """The processes that work on shards, started when there is something to do."""
        from pipelines.ray_backend.pool import Pool

        if self._pool is None:
            self._pool = self._stack.enter_context(Pool(self.store, self.config.resources, self.progress.line))
        return self._pool

    def _show(self, stage: Stage) -> None:
        """Make the stable names show what there is of a stage: nothing where it was not started."""
        for product in stage.products:
            files = self.files.get(product.name, {})
            self.store.publish(product, zip(files, FilePaths(files), strict=True))

    def _quarantine(self, name: str, result: Result) -> None:
        path = self.store.root / "failed" / f"{name}-{result.shard}.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_text(result.traceback or f"{result.error}\n", encoding="utf-8")

    def totals(self) -> dict[str, int]:
        """Images that came in, were rejected and clustered. AccountingError where the clusters' sizes do not add up."""
        counted = {name: outcome.counts for name, outcome in self.outcomes.items() if outcome.counts}
        found: dict[str, int] = {}
        for first in {"import", "encode"} & counted.keys():
            found |= {"images": counted[first].rows_in, "rejected": counted[first].rejected}
        if "assign" in counted:
            found["clustered"] = counted["assign"].rows_out
            if "label" in self.stages and (clusters := self.files.get("clusters")):
                with scratch.local_copy(next(iter(clusters.values())).path) as path:
                    table = tables.read(path, columns=["layer", "size"])
                for layer in table.group_by("layer").aggregate([("size", "sum")]).to_pylist():
                    if (members := layer["size_sum"]) != found["clustered"]:
                        raise AccountingError(f"{found['clustered']} images were assigned, the clusters have {members}")
        return found

    def _record(self, state: str, started: str) -> None:
        """Write `run.json`: what was asked, with what, and what came of it."""
        event_log.append(self.store.root / "events.jsonl", "run", state=state)
        totals = event_log.totals_by_step(self.store.root / "events.jsonl")
        steps = {}
        for name, outcome in self.outcomes.items():
            counts = outcome.counts._asdict() if outcome.counts else {}
            about = {"shards": outcome.shards, "done": outcome.done, "reused": outcome.reused, **counts}
            waits = {"waits_for": outcome.waits_for} if outcome.waits_for else {}
            steps[name] = {**about, **waits, "seconds": round(totals[name].seconds if name in totals else 0.0, 3)}
        failed = [
            {"step": name, "shard": r.shard, "error": r.error, "traceback": f"failed/{name}-{r.shard}.txt"}
            for name, outcome in self.outcomes.items()
            for r in outcome.failed
        ]
        document = {
            "state": state,
            "started": started,
            "shown": self.shown,
            "finished": None if state == "running" else event_log.utc_now(),
            "totals": self.totals() if state == "done" else {},
            "steps": steps,
            "failed": failed,
            "seed": self.config.seed,
            "versions": machine.versions(),
            "config": self.config.dump(),
        }
        path = self.store.root / "run.json"
        scratch = path.with_suffix(".new")
        scratch.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
        os.replace(scratch, path)
