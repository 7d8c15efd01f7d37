"""Configuration: what is read, and what is said when it is wrong."""

import re
from pathlib import Path

import pytest

from pipelines.commands.append import _absolute
from pipelines.config.errors import ConfigError
from pipelines.config.load import Config, load
from tests.support.datasets import Dataset

CONFIGS = sorted((Path(__file__).parents[3] / "configs").glob("*.yaml"))


def fault(dataset: Dataset, *overrides: str) -> str:
    with pytest.raises(ConfigError) as error:
        load(dataset.config, overrides)
    return str(error.value)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_that_is_shipped_is_complete(path: Path) -> None:
    """Every key stands in the file, so that it can be found and changed there."""
    config = load(path)
    written = path.read_text()
    for section, keys in config.dump(exclude_none=True).items():
        assert f"{section}:" in written
        for key in keys if isinstance(keys, dict) else ():
            assert f"  {key}:" in written, f"{section}.{key}"


def test_a_misspelt_key_names_file_key_value_and_the_nearest(dataset: Dataset) -> None:
    dataset.config.write_text(dataset.config.read_text().replace("epochs", "epoch"))
    assert fault(dataset) == f"{dataset.config}: fit.epoch: unknown key (value 4); nearest valid key: fit.epochs"


@pytest.mark.parametrize(
    "key", ["import.path", "import.images", "import.key", "data", "root", "label.vocabulary", "label.exclude"]
)
def test_empty_texts_are_errors_that_name_the_key(dataset: Dataset, key: str) -> None:
    text = "['']" if key in ("label.vocabulary", "label.exclude") else "' '"
    with pytest.raises(ConfigError, match=rf"--set {re.escape(key)}=.*: {re.escape(key)}: is an empty text .*: give"):
        load(dataset.config, [f"{key}={text}"])


def test_columns_of_results_are_no_metadata(dataset: Dataset) -> None:
    message = fault(dataset, "evaluate.label=cluster", "label.captions=margin")
    assert "evaluate.label: 'cluster' is a column of the results, metadata of this name are in source_" in message
    assert "label.captions: 'margin' is a column of the results" in message
    assert load(dataset.config, ["evaluate.label=source_cluster"]).evaluate


def test_a_misspelt_section_and_an_override_are_named(dataset: Dataset) -> None:
    said = fault(dataset, "labels.top=3", "fit.lrr=1")
    assert "--set labels.top=3: labels: unknown key (value {'top': 3}); nearest valid key: label" in said
    assert "--set fit.lrr=1: fit.lrr: unknown key (value 1); nearest valid key: fit.lr" in said


@pytest.mark.parametrize(("section", "key"), [("import", "path"), ("import.group", "column"), ("fit", "recipe")])
def test_a_value_in_place_of_a_section_is_an_error_that_lists_its_keys(
    dataset: Dataset, section: str, key: str
) -> None:
    assert f"{section}: is a section with the keys {key}, " in fault(dataset, f"{section}=paper")


def test_keys_of_the_other_recipe_and_an_unknown_recipe_are_named(dataset: Dataset) -> None:
    said = fault(dataset, "fit={neighbors: 5}")
    assert said == "--set fit={neighbors: 5}: fit.neighbors: unknown key (value 5); nearest valid key: fit.neighbours"
    said = fault(dataset, "fit={epochs: 5}")
    assert said.endswith("fit.epochs: unknown key (value 5) of this recipe; it is one of recipe: paper")
    said = fault(dataset, "fit={recipe: papers}")
    assert said == "--set fit={recipe: papers}: fit: recipe is 'papers', must be one of discriminant, paper"
    assert load(dataset.config, ["fit={}"]).fit.recipe == "discriminant"


def test_columns_of_vectors_that_no_encoder_writes_are_named(dataset: Dataset) -> None:
    said = fault(dataset, "fit.embeddings=[embedding, embedding_2]")
    assert "fit.embeddings names 'embedding_2', this run has embedding: take one of these" in said
    assert "label.embedding names 'clip'" in fault(dataset, "label.embedding=clip")
    assert "fit.embeddings names a column twice" in fault(dataset, "fit.embeddings=[embedding, embedding]")


def test_wrong_types_and_bounds_are_all_said_at_once(dataset: Dataset) -> None:
    said = fault(dataset, "fit.eta=0", "fit.epochs=many", "partition.n_clusters=2.5", "resources.workers=0")
    assert "--set fit.eta=0: fit.eta: input should be greater than 0 (value 0)" in said
    assert "--set fit.epochs=many: fit.epochs: input should be a valid integer (value 'many')" in said
    assert "partition.n_clusters: input should be a valid integer" in said
    assert "resources.workers: input should be greater than or equal to 1 (value 0)" in said


def test_a_key_inside_an_optional_section_is_checked(dataset: Dataset) -> None:
    assert "evaluate.labels: unknown key (value 'x'); nearest valid key: evaluate.label" in fault(
        dataset, "evaluate.labels=x"
    )


def test_a_key_inside_a_list_of_sections_is_checked(dataset: Dataset) -> None:
    said = fault(dataset, "encode={model: ViT-B-32, pretrained: openai, encoders: [{modle: x, pretrained: y}]}")
    assert "encode.encoders.0.modle: unknown key (value 'x'); nearest valid key: encode.encoders.model" in said


def test_a_run_starts_from_vectors_or_from_images(dataset: Dataset) -> None:
    said = "a run starts from `import` (vectors), or from `images` with `encode`: give one of the two"
    assert said in fault(dataset, "import=null")
    assert said in fault(dataset, "encode={model: ViT-B-32, pretrained: openai}")
    assert said in fault(dataset, "images={format: folder, path: [pictures]}")


def test_a_missing_key_is_said(dataset: Dataset) -> None:
    dataset.config.write_text("name: x\nimport: {path: z}\n")
    assert fault(dataset) == f"{dataset.config}: root: is missing; add it"


def test_more_clusters_than_fine_groups_are_an_error_before_the_start(dataset: Dataset) -> None:
    said = "partition: 5 fine groups are too few for 9 clusters: set partition.fine to several times 9"
    assert said in fault(dataset, "partition={n_clusters: 5, fine: 5, layers: [2, 9]}")
    assert said in fault(dataset, "partition={n_clusters: 9, fine: 5}")
    assert said in fault(dataset, "partition={n_clusters: null, fine: 5, layers: [9]}")
    both = "partition.candidates is a way to choose K: set n_clusters and fine to null"
    assert both in fault(dataset, "partition={n_clusters: 9, candidates: [5]}")
    assert load(dataset.config, ["partition={n_clusters: 5, fine: 50, layers: [9]}"]).partition.fine == 50


def test_numbers_with_exponents_are_numbers(dataset: Dataset) -> None:
    assert load(dataset.config, ["fit.lr=1e-4", "fit.lr_cluster=2E3"]).fit.lr == 1e-4


def test_a_key_that_stands_twice_is_an_error(dataset: Dataset) -> None:
    dataset.config.write_text(dataset.config.read_text() + "name: again\n")
    assert "the key 'name' stands twice" in fault(dataset)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("fit.epochs", "expected a dotted key, = and a value"),
        ("fit..epochs=1", "expected a dotted key, = and a value"),
        ("name.first=x", "name is a value, not a section"),
        ("fit.epochs=[1", "--set fit.epochs=[1: not valid YAML"),
        ("name=2024-30-12", "not valid YAML: month must be in 1..12; a text that looks like a date"),
        ("name=" + "[" * 5000, "not valid YAML: maximum recursion depth exceeded"),
        ("name={? [a] : b}", "not valid YAML: while constructing a mapping"),
    ],
)
def test_overrides_that_cannot_be_read(dataset: Dataset, override: str, said: str) -> None:
    assert f"--set {override}: " in fault(dataset, override)
    assert said in fault(dataset, override)


def test_files_that_cannot_be_read(dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: cannot be read \(No such file"):
        load(tmp_path / "none.yaml")
    dataset.config.write_text("- a\n- list\n")
    assert "expected keys and values, found list" in fault(dataset)
    dataset.config.write_text("a: [")
    assert "not valid YAML" in fault(dataset)


def test_sections_are_frozen_and_dump_round_trips(dataset: Dataset) -> None:
    config = load(dataset.config)
    with pytest.raises(ValueError, match="frozen"):
        config.fit.epochs = 3  # type: ignore[misc]
    assert Config.model_validate(config.dump()).dump() == config.dump()


def test_paths_start_from_data(dataset: Dataset) -> None:
    config = load(dataset.config, ["data=s3://bucket/sets"])
    assert config.locate("a/b") == config.locate("./a/b") == "s3://bucket/sets/a/b"
    assert config.locate(".") == "s3://bucket/sets"
    assert config.locate("/a/b") == "/a/b"
    assert config.locate("gs://other/b") == "gs://other/b"


def test_a_tilde_is_the_home_folder_and_not_a_folder_of_that_name(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/x")
    config = load(dataset.config, ["data=~/sets", "root=~/runs/a"])
    assert (config.root, config.locate("a/b")) == ("/home/x/runs/a", "/home/x/sets/a/b")
    assert config.locate("~/words.txt") == "/home/x/words.txt"
    assert _absolute("@~/new.txt") == "@/home/x/new.txt"
