"""One YAML file -> one frozen `Config`, or one error that says everything that is wrong in it.

Sections of steps say *what* is computed and are part of the fingerprint of results; `resources` says *how*.
"""

from __future__ import annotations

import difflib
import os
import posixpath
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, ValidationError, model_validator

from cpp.files import credentials
from cpp.store.bucket_folder import check_writable
from pipelines.config import run_folder
from pipelines.config.curation import Curate
from pipelines.config.errors import YAML_ERRORS, ConfigError, invalid_yaml
from pipelines.config.groups import Group
from pipelines.config.section import Section
from pipelines.config.sections import (
    RECIPES,
    DiscriminantFit,
    Encode,
    Evaluate,
    Fit,
    Images,
    Import,
    Label,
    Partition,
    Report,
    Resources,
)

HomePath = Annotated[str, AfterValidator(os.path.expanduser)]


class Config(Section):
    """The configuration of a run. Relative paths of inputs start from `data`; results are written below `root`."""

    name: str = Field(min_length=1, description="title of the run")
    root: Annotated[HomePath, AfterValidator(check_writable)] = Field(
        min_length=1, description="folder of results: a path, or s3:// or gs:// and one in a bucket"
    )
    data: HomePath = Field(".", description="where relative paths of inputs start: a folder or an fsspec URL")
    seed: int = Field(0, ge=0, lt=2**31)
    import_: Import | None = Field(None, alias="import")
    images: Images | None = None
    encode: Encode | None = None
    fit: Fit = DiscriminantFit()
    partition: Partition = Partition()
    label: Label | None = None
    evaluate: Evaluate | None = None
    curate: Curate | None = None
    decisions: Annotated[list[str], BeforeValidator(lambda value: [value] if isinstance(value, str) else value)] = (
        Field([], description="YAML files of decisions about clusters, beside those that the command `decide` recorded")
    )
    report: Report = Report()
    resources: Resources = Field(default_factory=Resources)
    _arguments: tuple[str, ...] = ()  # the file and overrides as on the command line

    @model_validator(mode="after")
    def _sections_fit(self) -> Self:
        """Refuse settings of different sections that contradict each other."""
        if (self.import_ is None) == (self.encode is None) or (self.images is None) != (self.encode is None):
            raise ValueError(
                "a run starts from `import` (vectors), or from `images` with `encode`: give one of the two"
            )
        existing = [column for source in (self.encode, self.import_) if source for column in source.columns]
        label = [self.label.embedding] if self.label else []
        for key, columns in (("fit.embeddings", self.fit.embeddings), ("label.embedding", label)):
            if missing := [column for column in columns if column not in existing]:
                raise ValueError(f"{key} names {missing[0]!r}, this run has {', '.join(existing)}: take one of these")
            if len(set(columns)) < len(columns):
                raise ValueError(f"{key} names a column twice: {', '.join(columns)}")
        if self.curate and self.curate.captions and not self.encode:
            raise ValueError(
                f"curate.captions is {self.curate.captions!r}, and only a run with `encode` has a text tower: "
                "set it to null, and similarity to a metadata column that says how well captions fit, if there is one"
            )
        namer = self.label and self.label.namer
        if namer and namer.pictures and not self.report.images:
            raise ValueError(
                f"label.namer.pictures is {namer.pictures}, which sends pictures to the model, and report.images is "
                "false, for images that must not leave their shards: set one of them to 0 or true"
            )
        if namer and namer.pictures and self.import_ and not self.import_.images:
            raise ValueError(
                f"label.namer.pictures is {namer.pictures}, and this run has no images: set it to 0, or import.images "
                "to the folder of their tars"
            )
        if self.report.attention and not (self.encode and self.report.images):
            lacks = "starts from vectors, without an encoder" if self.import_ else "shows no pictures (report.images)"
            raise ValueError(f"report.attention is true, and this run {lacks}: set it to false")
        if self.resources.ray_address and "://" not in self.root and not os.path.isabs(self.root):
            raise ValueError(
                f"root is {self.root!r}, and nodes of a cluster (resources.ray_address) work in other folders: give "
                "the absolute path of a folder on a disk that all nodes share, or s3:// or gs://"
            )
        return self

    @property
    def input_kind(self) -> Literal["vectors", "images"]:
        """The kind of the input shards."""
        return "vectors" if self.import_ else "images"

    @property
    def has_pictures(self) -> bool:
        """Whether the run has pictures, and not only vectors."""
        return self.images is not None or (self.import_ is not None and self.import_.images is not None)

    @property
    def group(self) -> Group | None:
        """The groups of images, such as the frames of a video."""
        return self.images.group if self.images else self.import_.group if self.import_ else None

    @property
    def metadata_columns(self) -> dict[str, str]:
        """The metadata columns of the images that the configuration names, by their keys."""
        evaluate, label, curate = self.evaluate, self.label, self.curate
        named = {
            f"{'images' if self.images else 'import'}.group.column": self.group and self.group.column,
            "evaluate.label": evaluate and evaluate.label,
            "evaluate.names": evaluate and evaluate.names,
            "label.captions": label and label.captions,
            "curate.similarity": curate and curate.similarity,
            "curate.captions": curate and curate.captions,
            "curate.split": curate and curate.split,
        }
        return {key: column for key, column in named.items() if column}

    def command_line(self, command: str) -> str:
        """A command on this configuration as the user types it, for messages."""
        return shlex.join(["cpp-at-scale", command, *self._arguments])

    def locate(self, path: str) -> str:
        """An input path as it is opened: relative to `data`, unless it is absolute, begins with ~ or is an address."""
        path = os.path.expanduser(path)
        if "://" in path or os.path.isabs(path):
            return path
        if "://" not in self.data:
            return os.path.abspath(os.path.join(self.data, path))
        scheme, _, folder = self.data.partition("://")
        return f"{scheme}://{posixpath.normpath(f'{folder}/{path}')}"

    def dump(self, **kwargs: Any) -> dict[str, Any]:
        """The configuration as plain values of a file, defaults included."""
        return self.model_dump(mode="json", by_alias=True, **kwargs)


def load(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read a file, or the record in a run folder, and apply overrides such as `label.top=3`.

    ConfigError names every fault at once.
    """
    recorded = run_folder.is_folder(str(path))
    raw = run_folder.read_config(str(path)) if recorded else _read(path)
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: expected keys and values, found {type(raw).__name__}")
    origin = {key: f"--set {override}" for override in overrides if (key := _override(raw, override))}
    try:
        config = Config.model_validate(raw)
    except ValidationError as error:
        faults = []
        for fault in error.errors():
            key = ".".join(str(part) for part in _parts(fault)) or "the whole"
            near = (o for k, o in origin.items() if f"{key}.".startswith(f"{k}.") or k.startswith(f"{key}."))
            place = next(near, str(path))
            faults.append(f"{place}: {key}: {_explain(fault)}")
        if recorded and any(fault.startswith(f"{path}: ") for fault in faults):
            faults.append("the last run of this folder was made by another version: give its YAML file instead")
        raise ConfigError(credentials.redacted("\n".join(faults))) from None
    config._arguments = (str(path), *(part for override in overrides for part in ("--set", override)))
    return config


def _read(path: str | Path) -> Any:
    """The content of a YAML file. ConfigError if it cannot be read."""
    try:
        with open(path, encoding="utf-8") as file:
            return yaml.load(file, _Loader)  # noqa: S506 (a SafeLoader)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error
    except YAML_ERRORS as error:
        raise invalid_yaml(str(path), error) from error


def _explain(fault: Mapping[str, Any]) -> str:
    """What is wrong with a value, and the fix."""
    value = f"(value {fault['input']!r})"
    match fault["type"]:
        case "value_error":
            return str(fault["ctx"]["error"])
        case "missing":
            return "is missing; add it"
        case "model_type":
            keys = _section_keys(fault, ".".join(map(str, _parts(fault))))
            return f"is a section with the keys {', '.join(keys)} below it {value}"
        case "union_tag_invalid":
            return f"recipe is {fault['ctx']['tag']!r}, must be one of {', '.join(RECIPES)}"
        case "extra_forbidden":
            return f"unknown key {value}{_suggestion(fault)}"
        case _:
            return f"{fault['msg'][0].lower()}{fault['msg'][1:]} {value}"


def _suggestion(fault: Mapping[str, Any]) -> str:
    """The recipe that an unknown key belongs to, or the nearest key of its section."""
    section, _, key = ".".join(part for part in _parts(fault) if isinstance(part, str)).rpartition(".")
    keys = _section_keys(fault, section)
    recipes = [name for name, recipe in RECIPES.items() if key in recipe.model_fields]
    if section == "fit" and recipes:
        return f" of this recipe; it is one of recipe: {recipes[0]}"
    return f"; nearest valid key: {section}{'.' * bool(section)}{difflib.get_close_matches(key, keys, 1, 0)[0]}"


def _section_keys(fault: Mapping[str, Any], section: str) -> list[str]:
    """The keys of a section; those of `fit` depend on the recipe, which a fault in it names."""
    if section == "fit":
        return list(RECIPES[fault["loc"][1]].model_fields)
    return [name for parent, name in _keys(Config) if parent == section]


def _parts(fault: Mapping[str, Any]) -> list[str | int]:
    """The keys down to a fault, without the recipe, by which pydantic tells the kinds of `fit` apart."""
    return [part for i, part in enumerate(fault["loc"]) if not (i == 1 and part in RECIPES)]


def _keys(model: type[BaseModel], section: str = "") -> Iterator[tuple[str, str]]:
    """The dotted name of the section of every key, and the key."""
    for name, field in model.model_fields.items():
        key = field.alias or name
        yield section, key
        for kind in (field.annotation, *get_args(field.annotation)):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from _keys(kind, f"{section}.{key}".lstrip("."))


def _override(raw: dict[str, Any], override: str) -> str:
    key, equals, text = override.partition("=")
    parts = key.split(".")
    if not equals or not all(parts):
        raise ConfigError(f"--set {override}: expected a dotted key, = and a value, such as label.top=3")
    try:
        value = yaml.load(text, _Loader)  # noqa: S506 (a SafeLoader)
    except YAML_ERRORS as error:
        raise invalid_yaml(f"--set {override}", error) from error
    for part in parts[:-1]:
        if raw.get(part) is None:
            raw[part] = {}
        raw = raw[part]
        if not isinstance(raw, dict):
            raise ConfigError(f"--set {override}: {part} is a value, not a section")
    raw[parts[-1]] = value
    return key


class _Loader(yaml.SafeLoader):
    """YAML where 1e-4 is a number (as in YAML 1.2) and a key that stands twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set[str]()
        for key, _ in node.value:
            name = str(key.value)  # of a key that is a list, which has no hash
            if name in seen:
                raise yaml.constructor.ConstructorError(None, None, f"the key {name!r} stands twice", key.start_mark)
            seen.add(name)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)
