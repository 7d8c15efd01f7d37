"""What changed since the last run, from its record."""

from pipelines.config.load import Config
from pipelines.engine import changes


def config(**values: object) -> Config:
    return Config.model_validate({"name": "Birds", "root": "runs/birds", "import": {"path": "vectors"}, **values})


def record(before: Config, done: int = 3, program: str | None = None) -> dict[str, object]:
    versions = {"cpp-at-scale": program} if program else {}
    return {"config": before.dump(), "steps": {"import": {"shards": 3, "done": done}}, "versions": versions}


def test_changed_settings_are_named_with_both_values() -> None:
    now = config(seed=1, fit={"recipe": "discriminant", "dim": 64})
    assert list(changes.settings(record(config()), now)) == [
        "changed since the last run: fit.dim from null to 64, seed from 0 to 1"
    ]


def test_at_most_five_changed_settings_are_named() -> None:
    partition = {"n_clusters": 9, "layers": [3], "eta": 0.2, "sample": 500, "landmarks": 64, "directions": 8}
    (line,) = changes.settings(record(config()), config(partition=partition))
    assert line.count(" from ") == 5
    assert line.endswith(" and 1 more")


def test_settings_that_change_no_result_are_left_out() -> None:
    now = config(root="elsewhere", resources={"batch": 7})
    assert list(changes.settings(record(config()), now)) == []


def test_a_first_run_has_no_changes() -> None:
    assert list(changes.settings({"state": "never started"}, config())) == []
    assert list(changes.inputs({"state": "never started"}, "import", 3, 0)) == []


def test_another_version_of_the_program_is_named() -> None:
    (line,) = changes.settings(record(config(), program="0.0.1"), config())
    assert line.startswith("the last run was made by cpp-at-scale 0.0.1, this is ")


def test_new_inputs_come_with_the_command_that_keeps_the_clusters() -> None:
    assert list(changes.inputs(record(config()), "import", 4, 3)) == [
        "input shards: 1 new or changed since the last run, so clusters are fitted again; the command append takes in "
        "new ones and keeps the clusters"
    ]


def test_inputs_that_are_gone_are_counted() -> None:
    (line,) = changes.inputs(record(config()), "import", 2, 2)
    assert line == "input shards: 1 gone or changed since the last run, so clusters are fitted again"
    (line,) = changes.inputs(record(config()), "import", 3, 2)
    assert line.startswith("input shards: 1 new or changed, 1 gone or changed since")


def test_the_same_inputs_an_interrupted_run_and_later_steps_are_passed_over() -> None:
    assert list(changes.inputs(record(config()), "import", 3, 3)) == []
    assert list(changes.inputs(record(config(), done=2), "import", 3, 2)) == []
    assert list(changes.inputs(record(config()), "project", 4, 3)) == []
