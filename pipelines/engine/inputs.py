"""Lists the input files of a configuration by kind and shard, with their fingerprints. Reads no images or vectors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from cpp.evaluation.accepted_names import read_accepted
from cpp.files import credentials, filesystem
from cpp.naming import word_lists
from cpp.sources import shards as sources
from cpp.sources import vectors
from cpp.sources.ignored import FileCounts
from cpp.store.object_store import open_store
from cpp.store.results import WHOLE, File, fingerprint
from pipelines.config import answers, decision_conflicts, decisions
from pipelines.config.decisions import DecisionFile
from pipelines.config.errors import ConfigError
from pipelines.config.load import Config
from pipelines.config.sections import CAPTIONS, Label
from pipelines.engine import metadata
from pipelines.engine.shard_index import InputFiles

MANY_SHARDS = ("webdataset", "parquet", "table")  # formats with so many shards that they are kept in a table


def input_files(config: Config, counts: FileCounts | None = None) -> dict[str, Mapping[str, File]]:
    """All input files, by kind and shard. ConfigError, with the key, if they do not exist or cannot be read."""
    files = input_shards(config, counts)
    metadata.check_inputs(config, files)
    if config.label:
        files |= _vocabulary(config, config.label)
    if config.evaluate and config.evaluate.accepted:
        path = config.locate(config.evaluate.accepted)
        with _config_errors("evaluate.accepted", config):
            read_accepted(path)
            files["accepted"] = {path: vectors.source_file(path, "")}
    if config.partition.answers:
        files["answers"] = {WHOLE: _answers(config, config.partition.answers)}
    files |= _decisions(config)
    # The report reads the event log for the times of the steps; the empty fingerprint keeps it from becoming stale.
    files["events"] = {WHOLE: File(f"{config.root.rstrip('/')}/events.jsonl", "")}
    return files


def _answers(config: Config, path: str) -> File:
    """The file of answers, identified by its answers. ConfigError if it cannot be used."""
    path = config.locate(path)
    with _config_errors("partition.answers", config):
        return File(path, fingerprint(*(answer.model_dump() for answer in answers.read(path))))


def decision_files(config: Config) -> list[DecisionFile]:
    """The files of decisions that `decide` recorded in the run folder, and those of the key `decisions`, each once.

    ConfigError, with the file, for one that cannot be used.
    """
    record = open_store(config.root).log(decisions.RECORD)
    files = decisions.parse(record.read_bytes(), str(record)) if record.exists() else []
    for path in config.decisions:
        with _config_errors("decisions", config):
            files += [file for file in decisions.read(config.locate(path)) if file not in files]
    return files


def _decisions(config: Config) -> dict[str, Mapping[str, File]]:
    """The decisions, and their merges and splits alone, which change the clusters; without decisions neither."""
    rounds = decisions.rounds(decision_files(config))
    decision_conflicts.check(rounds)
    cuts = decisions.cuts(rounds)
    files: dict[str, Mapping[str, File]] = {}
    if rounds:
        files["decision_files"] = {WHOLE: File(rounds, decisions.rounds_fingerprint(rounds))}
    if cuts:
        files["cuts"] = {WHOLE: File(cuts, decisions.cuts_fingerprint(cuts))}
    return files


def _vocabulary(config: Config, label: Label) -> dict[str, Mapping[str, File]]:
    """The inputs of `label.vocabulary` and `label.exclude`: folders, word list files, built-in lists, and words."""
    built_in = {word: File(word, word_lists.edition(word)) for word in label.vocabulary if word in word_lists.LISTS}
    names = {*built_in, CAPTIONS}
    paths = [config.locate(word) for word in label.vocabulary if word not in names]
    lists = [path for path in paths if path.endswith(".txt")]
    if not config.encode and (words := [*lists, *(word for word in label.vocabulary if word in names)]):
        raise ConfigError(
            f"label.vocabulary: {words[0]} is a list of words, which only a run with `encode` can use: "
            "name a folder with names.txt and embeddings.npy of the model that made the vectors"
        )
    files: dict[str, Mapping[str, File]] = {"named": built_in}
    hint = f"; it may also be one of {', '.join([*word_lists.LISTS, CAPTIONS])}"
    with _config_errors("label.vocabulary", config, hint):
        folders = [path for path in paths if path not in lists]
        files["vocabulary"] = {f: vectors.source_file(f, "names.txt", "embeddings.npy") for f in folders}
        files["wordlists"] = {path: vectors.source_file(path, "") for path in lists}
    excluded = list[str]()
    with _config_errors("label.exclude", config):
        for word in label.exclude:
            excluded += vectors.read_lines(config.locate(word)) if word.endswith(".txt") else [word]
    files["exclude"] = {word: File(word, word) for word in excluded}  # a word is its own fingerprint
    return files


def input_shards(config: Config, counts: FileCounts | None = None) -> dict[str, Mapping[str, File]]:
    """The shards of images, or of vectors with their metadata and images, by kind. ConfigError as `input_files`.

    `counts` receives the numbers of files.
    """
    counts = FileCounts() if counts is None else counts
    if config.import_:
        with _config_errors("import", config):
            images = config.import_.images and config.locate(config.import_.images)
            further = [config.locate(folder) for folder in config.import_.encoders]
            shards = vectors.vector_shards(config.locate(config.import_.path), images, further)
            files: dict[str, Mapping[str, File]] = {kind: InputFiles(of_kind) for kind, of_kind in shards.items()}
            counts.files += sum(map(len, files.values()))
            return files
    assert config.images is not None  # a configuration has `import` or `images`  # noqa: S101
    i = config.images
    with _config_errors("images", config):
        paths, annotations = (tuple(config.locate(path) for path in group) for group in (i.path, i.annotations))
        source = sources.Images(i.format, paths, i.shard_size, i.column, i.key, i.labels, annotations)
        named = ((name, File(shard, shard.fingerprint)) for name, shard in sources.iter_shards(source, counts))
        return {"images": InputFiles(named) if i.format in MANY_SHARDS else dict(named)}


@contextmanager
def _config_errors(key: str, config: Config, hint: str = "") -> Iterator[None]:
    """Turn errors of the file system and of the inputs into a ConfigError that names the key."""
    try:
        yield
    except ValueError as error:
        raise ConfigError(f"{key}: {error} (relative paths start from `data`, now {config.data!r}){hint}") from error
    except Exception as error:
        if not filesystem.is_storage_error(error):
            raise
        message = credentials.redacted(f"{type(error).__name__}: {error}")
        raise ConfigError(
            f"{key}: cannot be read ({message}; relative paths start from `data`, now {config.data!r}): correct the "
            "path or address, or grant access: file permissions, or credentials (AWS_*, GOOGLE_APPLICATION_CREDENTIALS)"
        ) from error
