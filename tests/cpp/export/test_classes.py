"""Names are untrusted: every cluster gets one folder that is safe and its own, and classes.csv leads back."""

import unicodedata
from pathlib import Path

import pytest

from cpp.export.classes import LONGEST, classes, folder, renumbered

HOSTILE = [
    "../../etc/passwd", "..", ".", "/", "a/b", "a\\b", ".hidden", "-rf", "con", "NUL", "com1", "classes.csv", "", " ",
    "x" * 1000, "猫" * 300, "กล้วย", "café", "cafe\u0301", "CAFÉ", "a\nb", "a\x00b", "\u202egnp.exe", "*", "???", "a:b",
    "golden retriever", "cat (tabby)", "train", "null", "NaN", "images.parquet", "~", "$HOME", "a. ", "🐈",
]  # fmt: skip


def rows(*names: str | None, size: int = 1) -> list[dict[str, object]]:
    return [
        {"cluster": k, "name": name, "size": size, "status": "general", "guess": "lorikeet"}
        for k, name in enumerate(names)
    ]


def test_every_name_is_one_folder_below_and_each_its_own(tmp_path: Path) -> None:
    found = classes(rows(*HOSTILE))
    assert len(found) == len(HOSTILE)
    assert sorted(c.cluster for c in found) == list(range(len(HOSTILE)))
    for c in found:
        (tmp_path / c.folder).mkdir()  # none is there already, and each can be made
        assert (tmp_path / c.folder).parent.resolve() == tmp_path
        assert (tmp_path / c.folder).resolve().parent == tmp_path
        assert not c.folder.startswith((".", "-", " "))
        assert c.folder.casefold() not in {"con", "nul", "com1"}
        assert len(c.folder.encode()) <= LONGEST + 20
        assert not set(c.folder) & set('/\\:*?"<>|.\x00\n\u202e')
    assert len({unicodedata.normalize("NFKC", c.folder).casefold() for c in found}) == len(found)
    assert sorted(p.name for p in tmp_path.iterdir()) == [c.folder for c in found]


def test_names_of_other_scripts_and_brackets_stay() -> None:
    kept = ["golden retriever", "cat (tabby)", "กล้วย", "猫", "café", "jack-o'-lantern"]
    assert [folder(name) for name in kept] == kept


def test_numbers_are_the_order_of_the_folders() -> None:
    """torchvision's ImageFolder numbers its classes in this order."""
    found = classes(rows("b", "a", None, "Z"))
    assert [c.number for c in found] == [0, 1, 2, 3]
    assert [c.folder for c in found] == sorted(c.folder for c in found) == ["Z", "a", "b", "cluster-2"]
    assert [c.cluster for c in found] == [3, 1, 0, 2]


def test_a_general_name_is_a_name_with_its_guess_beside_it() -> None:
    (bird,) = classes(rows("bird 2"))
    assert bird == (0, 0, "bird 2", "general", "lorikeet", "bird 2", "bird 2", None)


def test_with_guesses_general_and_unsure_clusters_are_named_alike() -> None:
    table = [
        {"cluster": k, "name": name, "size": 1, "status": status, "guess": guess, "guess_confidence": 0.25}
        for k, (name, status, guess) in enumerate(
            [("owl + snow", "named", "owl"), ("bird", "general", "lorikeet"), (None, "unsure", "finch"), (None,) * 3]
        )
    ]
    found = {c.cluster: c for c in classes(table, use_guess=True)}
    assert [found[k].title for k in range(4)] == ["owl + snow", "lorikeet", "finch", "cluster-3"]
    assert [found[k].status for k in range(4)] == ["named", "general", "unsure", None]
    assert [found[k].confidence for k in range(4)] == [None, 0.25, None, None]


def test_a_cluster_that_is_not_sure_is_a_class_by_its_number_and_has_no_name() -> None:
    found = classes(rows(None, "cluster-0"))
    assert {c.cluster: (c.name, c.title) for c in found} == {0: (None, "cluster-0"), 1: ("cluster-0", "cluster-0 2")}


@pytest.mark.parametrize("name", ["null", "NA", "nan", "None", "n/a"])
def test_no_title_reads_as_a_missing_value(name: str) -> None:
    assert classes(rows(name))[0].title == f"{name} + cluster-0"


def test_names_that_repeat_are_told_apart() -> None:
    assert {c.cluster: c.title for c in classes(rows("cat", "dog", "cat"))} == {
        0: "cat + cluster-0", 1: "dog", 2: "cat + cluster-2",
    }  # fmt: skip


def test_empty_clusters_and_those_not_asked_for_are_no_classes() -> None:
    assert classes(rows("a", "b", size=0)) == []
    assert [c[:3] for c in classes(rows("a", "b", "c"), frozenset({0, 2}))] == [(0, 0, "a"), (1, 2, "c")]


def test_classes_without_an_image_leave_no_gap_in_the_numbers() -> None:
    found = classes(rows("d", "c", "b", "a"))
    assert [(c.number, c.cluster, c.folder) for c in renumbered(found, frozenset({3, 0, 1}))] == [
        (0, 3, "a"), (1, 1, "c"), (2, 0, "d"),
    ]  # fmt: skip
