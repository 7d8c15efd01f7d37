"""A run: executes the steps in order, each on the shards without results, and accounts, logs and publishes them."""

from __future__ import annotations

import functools
import os
import shutil
from collections.abc import Generator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cpp.files import filesystem, scratch, tables
from cpp.files.tables import Counts
from cpp.sources.ignored import FileCounts
from cpp.store.object_store import open_store
from pipelines.config.errors import ResourceError
from pipelines.config.load import Config
from pipelines.engine import changes, data_card, event_log, machine, metadata
from pipelines.engine.executor import OpenError, TaskResult, run_in_process
from pipelines.engine.plan import Step, plan_step, upstream, with_later
from pipelines.engine.progress import Progress
from pipelines.engine.row_counts import AccountingError, DamagedError, RowAccounting
from pipelines.engine.shard_index import FilePaths
from pipelines.engine.source_counts import source_counts
from pipelines.engine.stage import Context, Stage, all_products
from pipelines.graph import Part, fitted

if TYPE_CHECKING:
    from pipelines.ray_backend.pool import Pool


@dataclass
class Outcome:
    """Result of a step. `failed` has its shards without results; `waits_for` is the step that kept it from starting."""

    shards: int = 0
    done: int = 0
    reused: int = 0
    counts: Counts | None = None
    failed: list[TaskResult] = field(default_factory=list)
    waits_for: str | None = None

    @property
    def ok(self) -> bool:
        """Whether the step is complete."""
        return not self.failed and self.waits_for is None


def in_ranks(config: Config, step: str) -> bool:
    """Whether all workers process a step together: the paper's training, if each worker has a whole GPU.

    Ranks on several nodes need a folder that all of them see, which a bucket is not.
    """
    r = config.resources
    is_shared = not (r.ray_address and filesystem.is_remote(config.root))
    return step == "fit" and config.fit.recipe == "paper" and r.workers > 1 and r.gpus >= 1 and is_shared


class Run:
    """One run of a configuration, or of a part of a run. `outcomes` has the result of each step in order."""

    def __init__(
        self, run: Config | Part, names: Sequence[str] = (), local: bool = False, allow_failed: bool = False
    ) -> None:
        """List the inputs and build the stages. `names` limits the run to these steps and those that they depend on.

        Raises ConfigError, or ResourceError if there is no GPU for `local`.
        """
        part = run if isinstance(run, Part) else fitted(run)
        self.config, self.local, self.allow_failed = part.config, local, allow_failed
        self.store = open_store(self.config.root)
        self.files = dict(part.files)
        self.stages = {name: part.stages[name] for name in upstream(names, part.stages)}
        self._all = self.stages.keys() == part.stages.keys()
        self.outcomes: dict[str, Outcome] = {}
        self.sources: dict[str, Any] = {}  # the numbers of files, pictures, rows, rejected and ignored
        self._counts = part.counts or FileCounts()
        self.shown: str | None = None  # start time of the complete run whose results the stable names show
        self._accounting = RowAccounting()
        gpus = self.config.resources.gpus
        if local and gpus and not machine.n_gpus():
            raise ResourceError(f"resources.gpus is {gpus:g} and this machine has no GPU: set it to 0")

    @property
    def ok(self) -> bool:
        """Whether all steps so far are complete."""
        return all(outcome.ok for outcome in self.outcomes.values())

    def go(self) -> bool:
        """Execute the steps. Returns whether all are complete.

        Raises LockedError or PermissionError before anything starts, ConfigError if no image has a metadata column that
        the configuration names, AccountingError if rows do not add up.
        """
        with ExitStack() as stack:
            stack.enter_context(self.store.lock())
            shutil.rmtree(self.store.root / "failed", ignore_errors=True)
            self._stack = stack
            self.progress = stack.enter_context(Progress(self.store.root))
            started, state = event_log.utc_now(), "interrupted"
            before = event_log.read_run_record(self.store)
            self.shown = before.get("shown")
            self._record("running", started)
            for line in (*self._counts.lines(), *changes.settings(before, self.config)):
                self.progress.line(line)
            try:
                for name, stage in self.stages.items():
                    self.outcomes[name] = outcome = self._step(name, stage)
                    for line in changes.inputs(before, name, outcome.shards, outcome.reused):
                        self.progress.line(line)
                    if name == "columns" and self.outcomes[name].ok:
                        (path,) = FilePaths(self.files["columns"])
                        features = FilePaths(self.files["features"])
                        metadata.check_features(self.config, tables.read_schema(path), features)
                    if not self.shown:  # otherwise wait for the end: files of two runs would not fit together
                        self._publish(stage)
                self._log_waiting()
                self._count_sources()
                state = "done" if self.ok else "failed"
                if self.ok or self.allow_failed:
                    for stage in self.stages.values() if self.shown else ():
                        self._publish(stage)
                    if self._all:
                        self.shown = started
                        self._finish_folder()
            except Exception:
                state = "failed"
                raise
            finally:
                self.progress.line(f"run: {state}")
                self._record(state, started)
        return self.ok

    def _step(self, name: str, stage: Stage, retry: bool = False, again: Sequence[str] = ()) -> Outcome:
        """Execute a step. `retry` is true if its files were damaged and have been removed.

        Shards whose rejected rows could be accepted now are read `again`.
        """
        if waits_for := self._incomplete(stage):
            return Outcome(waits_for=waits_for)
        planned = plan_step(name, stage, self.files, self.store, again)
        outcome = Outcome(len(planned.names), reused=len(planned.done))
        errors: dict[str, TaskResult] = {}
        if not planned.complete:
            errors = self._execute(with_later(planned, self.stages, self.files, self.store))
            planned = plan_step(name, stage, self.files, self.store, again)
        outcome.done = len(planned.done)
        outcome.failed = [errors[task.shard] for task in planned.todo]
        for result in outcome.failed:
            trace = self.store.root / "failed" / f"{name}-{result.shard}.txt"
            trace.parent.mkdir(exist_ok=True)
            trace.write_text(result.traceback or f"{result.error}\n", encoding="utf-8")
        try:
            outcome.counts = self._accounting.check(planned)
        except DamagedError as error:
            if retry:  # the new files cannot be read either
                raise
            for product, path, reason in error.files:
                self.progress.line(f"{name}: {path} is damaged ({reason}) and will be computed again")
                self.store.remove(product, [os.path.basename(path)])
            return self._step(name, stage, retry=True, again=again)
        if (outdated := self._accounting.outdated) and not again:
            self.progress.line(f"{name}: {len(outdated):,} shards have rejected pictures that can be read now")
            return self._step(name, stage, again=outdated)
        self.files |= planned.results()
        return outcome

    def _incomplete(self, stage: Stage) -> str | None:
        """The first step that keeps a stage from starting: one of its inputs is missing shards that it needs."""
        needs = {*stage.each, *stage.whole}
        for name, outcome in self.outcomes.items():
            unusable = not outcome.ok and not (self.allow_failed and outcome.done)
            if unusable and needs & {product.name for product in self.stages[name].products}:
                return outcome.waits_for or name
        return None

    def _log_waiting(self) -> None:
        """Log the steps that did not start, by the step that each waits for."""
        for failed in dict.fromkeys(outcome.waits_for for outcome in self.outcomes.values() if outcome.waits_for):
            waiting = [name for name, outcome in self.outcomes.items() if outcome.waits_for == failed]
            self.progress.line(f"{failed} is not complete, so these steps did not start: {', '.join(waiting)}")

    def _execute(self, planned: Step) -> dict[str, TaskResult]:
        """Process the shards without results. Returns the failed results by shard."""
        r, stage = self.config.resources, planned.stage
        ranks = not self.local and in_ranks(self.config, planned.name)
        threads = r.cpus if stage.each or ranks else r.cpus * r.workers  # a step that runs once has the CPUs of all
        cache = None if filesystem.is_remote(self.config.root) else self.store.root / "cache"
        context = Context.create(stage.whole, self.files, r, gpu=stage.gpu, threads=threads, cache=cache)
        self.store.save()  # so that the report can read the event log
        todo, products = planned.todo, next(iter(planned.outputs.values()))
        self.progress.start_step(planned.name, len(todo), len(planned.done))
        errors = dict[str, TaskResult]()
        try:
            if self.local:
                results: Generator[TaskResult] = run_in_process(stage, context, todo, self.store)
            else:
                results = (self._pool.results_from_ranks if ranks else self._pool.results)(stage, context, todo)
            with closing(results):
                for result in results:
                    self.progress.finish_shard(result, products[result.shard].fingerprint)
                    errors |= {result.shard: result} if result.error else {}
        except OpenError as error:
            message = f"the step could not start: {str(error).splitlines()[-1]}"
            self.progress.line(f"{planned.name}: FAILED: {message}")
            errors = {task.shard: TaskResult(task.shard, 0.0, None, message, str(error)) for task in todo}
        finally:
            self.progress.finish_step()
        return errors

    @functools.cached_property
    def _pool(self) -> Pool:
        """The pool of workers, which starts with the first step that has something to do."""
        from pipelines.ray_backend.pool import Pool

        return self._stack.enter_context(Pool(self.store, self.config.resources, self.progress.line, self.stages))

    def _publish(self, stage: Stage) -> None:
        """Point the stable names of a stage at its results, or remove them if it did not start."""
        for product in stage.products:
            files = self.files.get(product.name, {})
            self.store.publish(product, zip(files, FilePaths(files), strict=True))

    def _finish_folder(self) -> None:
        """Hide results of steps that this configuration does not have, and write the data card."""
        products = {product.name for stage in self.stages.values() for product in stage.products}
        for name, product in all_products().items():
            if name not in products:
                self.store.publish(product, ())
        paths = dict[str, str]()
        for name, stage in self.stages.items():
            rejected = (self.outcomes[name].counts or Counts(0, 0)).rejected
            for p in stage.products:
                if self.files.get(p.name) and (p.rows != "rejected" or rejected):  # an empty table cannot be loaded
                    paths[p.name] = f"{p.name}/*{p.suffix}" if stage.each else f"{p.name}{p.suffix}"
        card, path = data_card.text(self.config.name, paths), f"{self.store.address}/{data_card.NAME}"
        if not data_card.is_current(path, card):
            with self.store.commit({"card": path}) as out:
                out["card"].write_text(card, encoding="utf-8")

    def _count_sources(self) -> None:
        """Set `sources` if the first step has results."""
        for name in {"import", "encode"} & self.outcomes.keys():
            if rows := self.outcomes[name].counts:
                self.sources = source_counts(self._counts, rows, self._accounting.reasons[name])

    def totals(self) -> dict[str, int]:
        """Count input, rejected and clustered images. AccountingError if the clusters' sizes do not add up."""
        counts = {name: outcome.counts for name, outcome in self.outcomes.items() if outcome.counts}
        totals: dict[str, int] = {}
        for first in {"import", "encode"} & counts.keys():
            totals |= {"images": counts[first].rows_in, "rejected": counts[first].rejected}
        if "assign" not in counts:
            return totals
        totals["clustered"] = counts["assign"].rows_out
        for file in self.files.get("clusters", {}).values() if "label" in self.stages else ():
            with scratch.local_copy(file.path) as path:
                table = tables.read(path, columns=["layer", "size"])
            for members in table.group_by("layer").aggregate([("size", "sum")])["size_sum"].to_pylist():
                if members != totals["clustered"]:
                    raise AccountingError(
                        f"{totals['clustered']} images were assigned, but the clusters have {members}: remove "
                        f"{self.store.address}/cache/clusters and run again"
                    )
        return totals

    def _record(self, state: str, started: str) -> None:
        """Write `run.json`: configuration, versions, and the result of each step."""
        log = self.store.root / "events.jsonl"
        event_log.append(log, "run", state=state)
        worked = event_log.totals_by_step(log)
        steps: dict[str, dict[str, Any]] = {}
        for name, outcome in self.outcomes.items():
            steps[name] = {"shards": outcome.shards, "done": outcome.done, "reused": outcome.reused}
            steps[name] |= outcome.counts._asdict() if outcome.counts else {}
            steps[name] |= {"waits_for": outcome.waits_for} if outcome.waits_for else {}
            steps[name]["seconds"] = round(worked[name].seconds, 3) if name in worked else 0.0
        failed = [
            {"step": name, "shard": r.shard, "error": r.error, "traceback": f"failed/{name}-{r.shard}.txt"}
            for name, outcome in self.outcomes.items()
            for r in outcome.failed
        ]
        record = {
            "state": state,
            "started": started,
            "shown": self.shown,
            "finished": None if state == "running" else event_log.utc_now(),
            "totals": self.totals() if state == "done" else {},
            "sources": self.sources,
            "steps": steps,
            "failed": failed,
            "seed": self.config.seed,
            "versions": machine.versions(),
            "config": self.config.dump(),
            "directory": os.getcwd(),
        }
        event_log.write_run_record(self.store, record)
