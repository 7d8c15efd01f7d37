"""Files of decisions: what contradicts what, rounds, and how clusters are found again."""

from typing import Any

import numpy as np
import pytest

from pipelines.config import decision_conflicts
from pipelines.config.decision_matching import match
from pipelines.config.decisions import CUTS, DecisionFile, cuts, cuts_fingerprint, dump, entries_of, parse, rounds
from pipelines.config.errors import ConfigError


def decision(action: str, *clusters: int, **keys: Any) -> dict[str, Any]:
    return {"action": action, "clusters": [{"cluster": k, "members": [f"{k}a", f"{k}b"]} for k in clusters], **keys}


def file(name: str, *decisions: dict[str, Any], state: str | None = "s") -> DecisionFile:
    return DecisionFile.model_validate({"file": name, "state": state, "decisions": [*decisions]})


def faults(*files: DecisionFile) -> list[str]:
    """The contradictions of these files, each in a line."""
    try:
        decision_conflicts.check(rounds(files))
    except ConfigError as error:
        return [line.strip() for line in str(error).splitlines()[1:-1]]
    return []


@pytest.mark.parametrize(
    ("first", "second", "allowed_in_one_file"),
    [
        (decision("split", 1), decision("merge", 1, 2), False),
        (decision("drop", 2), decision("merge", 1, 2), False),
        (decision("merge", 1, 2), decision("drop", 2), True),
        (decision("split", 1), decision("drop", 1), False),
        (decision("drop", 1), decision("rename", 1, name="x"), True),
        (decision("rename", 1, name="x"), decision("split", 1), True),
        (decision("rename", 1, name="x"), decision("rename", 1, name="y"), True),
        (decision("merge", 1, 2, name="x"), decision("rename", 2, name="y"), True),
    ],
)
def test_contradictions(first: dict[str, Any], second: dict[str, Any], allowed_in_one_file: bool) -> None:
    assert len(faults(file("a", first), file("b", second))) == 1
    assert len(faults(file("a", first), file("b", second, state="later"))) == 0
    assert len(faults(file("a", first, second))) == (0 if allowed_in_one_file else 1)


def test_names_of_clusters_that_another_decision_merges_contradict_each_other() -> None:
    both = file("a", decision("rename", 1, name="x")), file("b", decision("rename", 3, name="y"))
    assert not faults(*both)
    (fault,) = faults(*both, file("c", decision("merge", 1, 2), decision("merge", 2, 3)))
    assert "two names, 'x' in a, decision 1 (rename), 'y' in b, decision 1 (rename)" in fault


def test_agreeing_files_do_not_contradict_each_other() -> None:
    a = decision("merge", 1, 2), decision("split", 3), decision("rename", 4, name="x"), decision("drop", 5)
    assert not faults(file("a", *a), file("b", *a, decision("tag", 5, tag="t"), decision("merge", 2, 7)))


def test_files_of_one_state_are_a_round_and_the_others_follow() -> None:
    drop = decision("drop", 1)
    files = [
        file("a", drop),
        file("b", drop, state=None),
        file("c", drop, state="t"),
        file("d", drop),
        file("e", drop, state=None),
    ]
    assert [[entry.file for entry in entries_of(each)] for each in rounds(files)] == [["a", "d"], ["b"], ["c"], ["e"]]


def test_only_merges_and_splits_change_the_fingerprint_of_the_cut() -> None:
    split = decision("split", 1)
    plain, more = (
        cuts(rounds([file("a", *of)])) for of in ([split], [decision("drop", 2), {**split, "reason": "two"}])
    )
    assert cuts_fingerprint(plain) == cuts_fingerprint(more)
    assert cuts_fingerprint(plain) != cuts_fingerprint(cuts(rounds([file("a", decision("split", 2))])))
    assert {entry.decision.action for entries in more for entry in entries} <= {*CUTS}


def test_the_record_reads_as_it_was_written() -> None:
    files = [file("a", decision("tag", 1, tag="007")), file("b", decision("drop", 2, date="2026-11-28"), state="é")]
    assert parse(dump(files).encode(), "decisions.yaml") == files


def test_a_cluster_is_where_most_of_its_images_are() -> None:
    labels = np.array([5, 5, 9])
    places = {"1a": [0], "1b": [1], "2a": [2], "2b": [2]}
    entries = [*entries_of(rounds([file("a", decision("drop", 1), decision("tag", 2, tag="t"))])[0])]
    assert [[one.now for one in of] for of in match(entries, places, labels)] == [[5], [9]]


@pytest.mark.parametrize(
    ("places", "message"),
    [
        ({"1a": [0], "1b": [0]}, r"a, decision 2 \(tag\): cluster 2 .*of its 2 typical images 0 are in this run"),
        (
            {"1a": [0], "1b": [2], "2a": [2], "2b": [2]},
            r"a, decision 1 \(drop\): cluster 1 is not a cluster of this run",
        ),
        ({"1a": [0], "1b": [1], "2a": [0], "2b": [1]}, "cluster 1 and cluster 2 are one cluster in this run"),
    ],
)
def test_clusters_that_cannot_be_told_are_refused_by_name(places: dict[str, list[int]], message: str) -> None:
    entries = [*entries_of(rounds([file("a", decision("drop", 1), decision("tag", 2, tag="t"))])[0])]
    with pytest.raises(ValueError, match=message):
        match(entries, places, np.array([5, 5, 9]))
