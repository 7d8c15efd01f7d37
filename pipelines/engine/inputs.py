"""A configuration -> the files that a run starts from, by kind and shard, with fingerprints of what is in them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from cpp.files import credentials, filesystem
from cpp.naming import word_lists
from cpp.sources import shards as sources
from cpp.sources import vectors
from cpp.store.results import WHOLE, File
from pipelines.config.errors import ConfigError
from pipelines.config.load import Config
from pipelines.config.sections import CAPTIONS, Label
from pipelines.engine.shard_index import Listed

LONG = ("webdataset", "parquet", "table")  # formats whose shards are a few plain values each, and may be very many


def input_files(config: Config) -> dict[str, Mapping[str, File]]:
    """Files that the run starts from, by kind and shard. ConfigError names the key whose files are not there."""
    found = input_shards(config)
    if config.label:
        found |= _vocabulary(config, config.label)
    # The log tells the report how long things took: it is read, but a change of it makes nothing stale.
    found["events"] = {WHOLE: File(f"{config.root.rstrip('/')}/events.jsonl", "")}
    return found


def _vocabulary(config: Config, label: Label) -> dict[str, Mapping[str, File]]:
    """What `label.vocabulary` and `label.exclude` name: folders, files of words, lists of the packages, words."""
    named = {word: File(word, word_lists.edition(word)) for word in label.vocabulary if word in word_lists.LISTS}
    paths = [config.locate(word) for word in label.vocabulary if word not in {*named, CAPTIONS}]
    lists = [path for path in paths if path.endswith(".txt")]
    if not config.encode and (words := [*lists, *(word for word in label.vocabulary if word in {*named, CAPTIONS})]):
        raise ConfigError(
            f"label.vocabulary: {words[0]} is a list of words, which only a run with `encode` can use: "
            "take a folder with names.txt and embeddings.npy of the model that made the vectors"
        )
    found: dict[str, Mapping[str, File]] = {"named": named}
    hint = f"; it may also be one of {', '.join([*word_lists.LISTS, CAPTIONS])}"
    with _naming("label.vocabulary", config, hint):
        folders = [path for path in paths if path not in lists]
        found["vocabulary"] = {f: vectors.tracked(f, "names.txt", "embeddings.npy") for f in folders}
        found["wordlists"] = {path: vectors.tracked(path, "") for path in lists}
    with _naming("label.exclude", config):
        barred = [
            w for e in label.exclude for w in (vectors.read_lines(config.locate(e)) if e.endswith(".txt") else [e])
        ]
    found["exclude"] = {word: File(word, word) for word in barred}  # such a word is all that there is to it
    return found


def input_shards(config: Config) -> dict[str, Mapping[str, File]]:
    """The shards alone, by kind."""
    if config.import_:
        with _naming("import", config):
            images = config.import_.images and config.locate(config.import_.images)
            found = vectors.vector_shards(config.locate(config.import_.path), images)
            return {kind: Listed(files) for kind, files in found.items()}
    assert config.images is not None  # the config has one of the two  # noqa: S101
    i = config.images
    with _naming("images", config):
        paths, annotations = (tuple(config.locate(path) for path in group) for group in (i.path, i.annotations))
        described = sources.Images(i.format, paths, i.shard_size, i.column, i.key, i.labels, annotations)
        files = ((name, File(shard, shard.fingerprint)) for name, shard in sources.listed(described))
        return {"images": Listed(files) if i.format in LONG else dict(files)}


@contextmanager
def _naming(key: str, config: Config, hint: str = "") -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise ConfigError(f"{key}: {error} (relative paths start from `data`, now {config.data!r}){hint}") from error
    except Exception as error:
        if not filesystem.is_failure(error):
            raise
        said = credentials.redacted(f"{type(error).__name__}: {error}")
        raise ConfigError(
            f"{key}: cannot be read ({said}; relative paths start from `data`, now {config.data!r}): correct the path "
            "or address, or what may read it: permissions, or credentials (AWS_*, GOOGLE_APPLICATION_CREDENTIALS)"
        ) from error
