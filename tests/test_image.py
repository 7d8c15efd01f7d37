"""The Dockerfile and compose.yaml agree with the repository. The image itself is not built here."""

import fnmatch
import re
import tomllib
from typing import Any

import yaml

from tests.support.source_tree import ROOT

LINES = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if line and not line.startswith("#")]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def values(instruction: str) -> list[str]:
    return [line.removeprefix(f"{instruction} ") for line in LINES if line.startswith(f"{instruction} ")]


def test_what_is_copied_exists_and_is_sent_to_the_builder() -> None:
    sent = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    copied = [path for value in values("COPY") if "--from" not in value for path in value.split()[:-1]]
    assert sorted(copied) == sorted(sent)
    assert all((ROOT / path).exists() for path in copied)


def test_the_wheel_can_be_built_from_what_is_copied() -> None:
    """Its readme and its packages are in the stage that builds it."""
    build = " ".join(LINES[: next(i for i, line in enumerate(LINES) if i and line.startswith("FROM"))])
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]["find"]["include"]
    for path in (PROJECT["readme"], *(name for name in packages if "*" not in name)):
        assert f" {path}" in build, path


def test_the_python_of_the_image_is_one_that_the_project_supports() -> None:
    stages = [value.split()[0] for value in values("FROM")]
    assert len(set(stages)) == 1
    minor = int(re.fullmatch(r"python:3\.(\d+)-slim", stages[0])[1])  # type: ignore[index]
    lowest, above = map(int, re.findall(r"3\.(\d+)", PROJECT["requires-python"]))
    assert lowest <= minor < above


def test_the_image_runs_as_another_user_than_root() -> None:
    (user,) = values("USER")
    assert user not in ("root", "0")
    assert any(f"useradd --create-home --uid 1000 {user}" in value for value in values("RUN"))
    assert LINES.index(f"USER {user}") < LINES.index(f"CMD {values('CMD')[0]}")


def test_the_image_has_the_console_script_and_ray_for_clusters() -> None:
    assert values("CMD") == ['["cpp-at-scale", "demo"]']
    assert "cpp-at-scale" in PROJECT["scripts"]
    assert any('--constraint /tmp/requirements.lock "ray[default]"' in value for value in values("RUN"))


def test_compose_and_kubernetes_name_the_image() -> None:
    tag = f"cpp-at-scale:{PROJECT['version']}"
    compose: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
    assert {service["image"] for service in compose["services"].values()} == {tag}
    manifest = (ROOT / "configs" / "cluster" / "kuberay.yaml").read_text()
    images = re.findall(r"^ +image: (\S+)", manifest, re.MULTILINE)
    assert images == [f"<registry>/{tag}"] * 3
    assert f"docker build --tag {tag} ." in (ROOT / "Dockerfile").read_text()


def test_data_files_of_the_packages_are_sent() -> None:
    """No rule of .dockerignore leaves out a file that the wheel contains."""
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines()[1:] if not line.startswith("!")]
    assets = list((ROOT / "cpp" / "demo" / "assets").iterdir())
    assert (ROOT / "cpp" / "demo" / "assets" / "demo.yaml").is_symlink()  # to configs, which has to be copied for it
    for path in assets:
        name = str(path.resolve().relative_to(ROOT))
        assert any(name.startswith(f"{copied}/") for copied in ("cpp", "configs") if f"COPY {copied} {copied}" in LINES)
        assert not any(fnmatch.fnmatch(name, rule) for rule in rules)
