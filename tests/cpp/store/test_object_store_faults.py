"""Faults of object stores: passing ones are retried, others name the address and the fix."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from cpp.files import filesystem
from cpp.store.bucket_folder import BucketObjects
from cpp.store.object_store import open_store
from tests.support.object_store import Fault, ObjectStore, disconnect
from tests.support.stores import CODES, contents, make


@pytest.mark.parametrize("fault", ["500", "503", "cut", 3.0])
def test_transient_faults_are_retried(s3: ObjectStore, fault: Fault, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = Counter[tuple[str, str]]()

    def once(method: str, path: str) -> Fault:
        if fault == "cut" and (method != "GET" or "k.txt" not in path):
            return None  # an answer is cut off where it has a body
        seen[method, path] += 1
        return fault if seen[method, path] == 1 else None

    monkeypatch.setitem(filesystem.OPTIONS["s3"]["config_kwargs"], "read_timeout", 1)
    disconnect()
    store = open_store("s3://bucket/run")
    s3.fault = once
    target = make(store, CODES, "0", "k", "text" * 1000)
    store.publish(CODES, {"0": target}.items())
    with store.local_files({"codes": target}) as files:
        assert Path(files["codes"]).read_text() == "text" * 1000
    s3.reset()
    assert contents(store)["codes/0.txt"] == "text" * 1000
    assert max(seen.values()) > 1
    disconnect()


def test_a_permanent_failure_names_the_address_and_the_fix(s3: ObjectStore, quick: None) -> None:
    store = open_store("s3://bucket/run")
    s3.fault = lambda method, path: "403"
    with pytest.raises(PermissionError, match="cannot use the run folder s3://bucket/run .*set `root`"), store.lock():
        pass
    with pytest.raises(PermissionError, match="cannot use the run folder"):
        store.listing(CODES)
    s3.reset()
    with pytest.raises(PermissionError, match="s3://no-such-bucket/run .*set `root` to an existing bucket"):
        open_store("s3://no-such-bucket/run").lock().__enter__()
    assert contents(store) == {}
    with (
        pytest.raises(ConnectionError, match=r"https://\*\*\*@host refused"),
        BucketObjects("s3://b", "", "").explain_errors(),
    ):
        raise OSError("https://user:hidden@host refused")
    with (
        pytest.raises(ZeroDivisionError),
        BucketObjects("s3://b", "", "").explain_errors(),
    ):  # a bug in a program is no error of the store
        raise ZeroDivisionError
