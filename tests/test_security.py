"""Nothing that is read can run: no unpickling, no shell, no code from text. Seen in the source, and tried."""

import ast
import json
import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from cpp.encoding.images import Limits
from cpp.encoding.weights import WeightsError, sha256
from cpp.report.run_page import render
from cpp.sources import vectors
from tests.support.pages import made
from tests.support.source_tree import FILES

FORBIDDEN = {
    *("eval", "exec", "compile", "__import__"),
    *("pickle.load", "pickle.loads", "pickle.Unpickler", "joblib.load", "marshal.load", "marshal.loads", "shelve.open"),
    *("os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput"),
    *("yaml.unsafe_load", "yaml.full_load", "yaml.load_all", "extractall", "extract"),
}


def called(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    """Calls by their dotted name; of a method the last part alone counts as well."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            yield name, node
            if isinstance(node.func, ast.Attribute) and node.func.attr in ("extractall", "extract"):
                yield node.func.attr, node


def faults(source: str) -> list[str]:
    """What a module calls that could run what it reads."""
    found = []
    for name, call in called(ast.parse(source)):
        given = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        wrong = (
            name in FORBIDDEN
            or given.get("shell") == "True"
            or given.get("allow_pickle") == "True"
            or (name in ("np.load", "numpy.load") and given.get("allow_pickle") != "False")
            or (name == "torch.load" and given.get("weights_only") != "True")
            or (name == "yaml.load" and not (len(call.args) > 1 and ast.unparse(call.args[1]) == "_Loader"))
            or (name.endswith("Environment") and given.get("autoescape") != "True")
        )
        found += [f"line {call.lineno}: {ast.unparse(call)[:80]}"] if wrong else []
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_nothing_that_is_read_can_run(path: Path) -> None:
    assert faults(path.read_text()) == []


@pytest.mark.parametrize(
    "source",
    [
        "pickle.load(f)",
        "np.load(f)",
        "np.load(f, allow_pickle=True)",
        "torch.load(f)",
        "torch.load(f, weights_only=False)",
        "yaml.load(f, yaml.Loader)",
        "os.system(x)",
        "subprocess.run(x, shell=True)",
        "tar.extractall(x)",
        "jinja2.Environment(loader=x)",
        "eval(x)",
    ],
)
def test_the_check_sees_what_it_is_for(source: str) -> None:
    assert len(faults(source)) == 1


class Bomb:
    """What creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


def test_a_pickle_in_a_file_of_vectors_or_of_weights_does_not_run(tmp_path: Path) -> None:
    gone = tmp_path / "ran"
    pickle.loads(pickle.dumps(Bomb(gone)))  # noqa: S301 (to see that it would)
    gone.unlink()
    np.save(tmp_path / "x.npy", np.array([Bomb(gone)], object), allow_pickle=True)
    with pytest.raises(ValueError, match="not a readable"):
        vectors.read_vectors(str(tmp_path / "x.npy"))
    torch.save({"a": Bomb(gone)}, tmp_path / "x.pt")
    (tmp_path / "y.pt").write_bytes(pickle.dumps(Bomb(gone), protocol=2))
    for name in ("x.pt", "y.pt"):
        with pytest.raises(WeightsError, match="without running code"):
            sha256(str(tmp_path / name))
    assert not gone.exists()


def test_an_image_has_bounds_that_no_setting_lifts() -> None:
    from PIL import Image

    assert Image.MAX_IMAGE_PIXELS is not None
    assert Limits().max_pixels <= 2 * Image.MAX_IMAGE_PIXELS


def test_json_in_the_page_cannot_end_its_script() -> None:
    key = "</script><script>alert(1)</script>"
    page = render(made(1, key))
    points = page.split('<script type="application/json" id="points">')[1].split("</script>")[0]
    assert "<" not in points
    assert json.loads(points)["key"][0] == f"{key} 0"
