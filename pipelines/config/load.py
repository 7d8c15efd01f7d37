"""One YAML file -> one frozen `Config`, or one error that says everything that is wrong in it.

Sections of steps say *what* is computed and are part of the fingerprint of results; `resources` says *how*.
"""

from __future__ import annotations

import difflib
import os
import posixpath
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from cpp.files import credentials
from cpp.files.tables import EMBEDDING
from cpp.store.bucket_folder import check_writable
from pipelines.config.errors import ConfigError
from pipelines.config.sections import (
    RECIPES,
    Curate,
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
    Section,
)


class Config(Section):
    """A whole run. Relative paths of inputs start from `data`; `root` is the folder that results go to."""

    name: str = Field(min_length=1, description="title of the run")
    root: str = Field(min_length=1, description="folder of results: a path, or s3:// or gs:// and one in a bucket")
    data: str = Field(".", description="where relative paths of inputs start: a folder or an fsspec URL")
    seed: int = Field(0, ge=0, lt=2**31)
    import_: Import | None = Field(None, alias="import")
    images: Images | None = None
    encode: Encode | None = None
    fit: Fit = DiscriminantFit()
    partition: Partition = Partition()
    label: Label | None = None
    evaluate: Evaluate | None = None
    curate: Curate | None = None
    report: Report = Report()
    resources: Resources = Field(default_factory=Resources)
    _arguments: tuple[str, ...] = ()  # the file and overrides as on the command line

    @field_validator("root", "data")
    @classmethod
    def _at_home(cls, path: str) -> str:
        return os.path.expanduser(path)

    @field_validator("root")
    @classmethod
    def _written_to(cls, root: str) -> str:
        check_writable(root)
        return root

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.import_ is None) == (self.encode is None) or (self.images is None) != (self.encode is None):
            raise ValueError(
                "a run starts from `import` (vectors), or from `images` with `encode`: give one of the two"
            )
        return self

    @model_validator(mode="after")
    def _columns_there(self) -> Self:
        there = list(self.encode.columns) if self.encode else [EMBEDDING]
        wanted = {
            "fit.embeddings": self.fit.embeddings,
            "label.embedding": [self.label.embedding] if self.label else [],
        }
        for key, columns in wanted.items():
            if missing := [column for column in columns if column not in there]:
                raise ValueError(f"{key} names {missing[0]!r}, this run has {', '.join(there)}: take one of these")
            if len(set(columns)) < len(columns):
                raise ValueError(f"{key} names a column twice: {', '.join(columns)}")
        return self

    @model_validator(mode="after")
    def _text_tower(self) -> Self:
        odd = self.curate and self.curate.outliers
        if odd and odd.captions and not self.encode:
            raise ValueError(
                f"curate.outliers.captions is {odd.captions!r}, and only a run with `encode` has a text tower: set it "
                "to null, and similarity to a metadata column that says how well captions fit, if there is one"
            )
        return self

    @model_validator(mode="after")
    def _root_on_every_node(self) -> Self:
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

    def command_line(self, command: str) -> str:
        """A command on this configuration as the user types it, for messages."""
        return shlex.join(["python", "-m", "pipelines", command, *self._arguments])

    def locate(self, path: str) -> str:
        """An input path as it is opened: from `data` on, unless it is absolute, begins with ~ or is a URL."""
        path = os.path.expanduser(path)
        if "://" in path or os.path.isabs(path):
            return path
        if "://" not in self.data:
            return os.path.abspath(os.path.join(self.data, path))
        scheme, _, place = self.data.partition("://")
        return f"{scheme}://{posixpath.normpath(f'{place}/{path}')}"

    def dump(self, **kwargs: Any) -> dict[str, Any]:
        """The configuration as it would stand in a file, defaults included."""
        return self.model_dump(mode="json", by_alias=True, **kwargs)


def load(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read a file and apply overrides such as `label.top=3`. ConfigError names every fault at once."""
    try:
        with open(path, encoding="utf-8") as file:
            raw = yaml.load(file, _Loader)  # noqa: S506 (a SafeLoader)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from error
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: expected keys and values, found {type(raw).__name__}")
    origin = {key: f"--set {override}" for override in overrides if (key := _override(raw, override))}
    _check_addresses(raw, str(path), "")
    try:
        config = Config.model_validate(raw)
    except ValidationError as error:
        faults = []
        for fault in error.errors():
            key = ".".join(str(part) for part in _parts(fault)) or "the whole"
            near = (o for k, o in origin.items() if f"{key}.".startswith(f"{k}.") or k.startswith(f"{key}."))
            place = next(near, str(path))
            faults.append(f"{place}: {key}: {_explain(fault)}")
        raise ConfigError("\n".join(faults)) from None
    config._arguments = (str(path), *(part for override in overrides for part in ("--set", override)))
    return config


def _check_addresses(value: Any, path: str, key: str) -> None:
    """ConfigError, naming the key and not the value, where an address holds credentials."""
    if isinstance(value, dict):
        for name, below in value.items():
            _check_addresses(below, path, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list):
        for below in value:
            _check_addresses(below, path, key)
    elif isinstance(value, str):
        try:
            credentials.check_address(value)
        except ValueError as error:
            raise ConfigError(f"{path}: {key}: {error}") from None


def _explain(fault: Mapping[str, Any]) -> str:
    value = f"(value {fault['input']!r})"
    if fault["type"] == "value_error":
        return str(fault["ctx"]["error"])
    if fault["type"] == "missing":
        return "is missing; add it"
    if fault["type"] == "union_tag_invalid":
        return f"recipe is {fault['ctx']['tag']!r}, must be one of {', '.join(RECIPES)}"
    if fault["type"] != "extra_forbidden":
        return f"{fault['msg'][0].lower()}{fault['msg'][1:]} {value}"
    section, valid = "", _keys(Config)
    for part in _parts(fault)[:-1]:
        recipe = RECIPES.get(fault["loc"][1]) if part == "fit" else None
        section, valid = f"{section}{part}.", _keys(recipe or valid[str(part)])
    for name, kind in RECIPES.items() if section == "fit." else ():
        if fault["loc"][-1] in _keys(kind):
            return f"unknown key {value} of this recipe; it is one of recipe: {name}"
    near = difflib.get_close_matches(str(fault["loc"][-1]), list(valid), n=1, cutoff=0)
    return f"unknown key {value}; nearest valid key: {section}{near[0]}"


def _parts(fault: Mapping[str, Any]) -> list[str | int]:
    """The keys down to a fault, without the recipe, by which pydantic tells the kinds of `fit` apart."""
    return [part for i, part in enumerate(fault["loc"]) if not (i == 1 and part in RECIPES)]


def _keys(annotation: Any) -> dict[str, Any]:
    """Keys of a section and what stands behind each; of `Section | None` as well."""
    options = [annotation, *getattr(annotation, "__args__", ())]
    model = next(option for option in options if isinstance(option, type) and issubclass(option, BaseModel))
    return {field.alias or name: field.annotation for name, field in model.model_fields.items()}


def _override(raw: dict[str, Any], override: str) -> str:
    key, equals, text = override.partition("=")
    parts = key.split(".")
    if not equals or not all(parts):
        raise ConfigError(f"--set {override}: expected a dotted key, = and a value, such as label.top=3")
    try:
        value = yaml.load(text, _Loader)  # noqa: S506 (a SafeLoader)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {override}: the value is not valid YAML: {error}") from error
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
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value!r} stands twice", key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)
