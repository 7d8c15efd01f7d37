"""Addresses in tables that are no addresses reject their row, and no other."""

import json
from pathlib import Path

import pytest

from cpp.sources.samples import Reason
from cpp.sources.shards import read_samples
from tests.support.tars import JPEG, only


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        ("data:image/png;base64," + "A" * 5000, Reason.UNREADABLE),
        ("file:///" + "b" * 400, Reason.UNREADABLE),
        ("a\0b.jpg", Reason.UNREADABLE),
        ("s3://", Reason.UNREADABLE),
        ("s3://bucket", Reason.UNREADABLE),
        ("s3://no bucket/a.jpg", Reason.UNREADABLE),
        ({"bytes": None}, Reason.NO_IMAGE),
        ({}, Reason.NO_IMAGE),
        ([1], Reason.NO_IMAGE),
    ],
)
def test_an_odd_address_rejects_its_row_alone(tmp_path: Path, image: object, reason: Reason) -> None:
    (tmp_path / "a.jpg").write_bytes(JPEG)
    lines = [json.dumps({"url": value}) + "\n" for value in (image, "a.jpg", {"path": "a.jpg"})]
    (tmp_path / "t.jsonl").write_text("".join(lines))
    rows = list(read_samples(only("table", f"{tmp_path}/t.jsonl", column="url")))
    assert [row.reason for row in rows] == [reason, None, None]
    assert [row.image for row in rows[1:]] == [JPEG, JPEG]
