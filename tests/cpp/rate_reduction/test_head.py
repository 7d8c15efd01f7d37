"""The network: unit codes, the same whatever the batch, and weights that come back."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from cpp.rate_reduction.head import Head, TwoHeads


def head() -> TwoHeads:
    network = TwoHeads(12, 16, 4, torch.Generator().manual_seed(0))
    with torch.no_grad():
        network.train()(torch.randn(64, 12, generator=torch.Generator().manual_seed(1)))  # moves the batch statistics
    return network.eval()


def test_codes_are_unit_rows_of_both_heads() -> None:
    Z, C = head().project(torch.randn(10, 12), batch=4)
    assert Z.shape == C.shape == (10, 4)
    torch.testing.assert_close(Z.norm(dim=1), torch.ones(10))
    torch.testing.assert_close(C.norm(dim=1), torch.ones(10))
    assert not torch.allclose(Z, C)


def test_the_batch_changes_nothing() -> None:
    X = torch.randn(50, 12, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(head().project(X, 50).Z, head().project(X, 7).Z)


def test_no_rows_give_no_codes() -> None:
    assert head().project(torch.empty(0, 12), 8).Z.shape == (0, 4)


def test_equal_seeds_give_equal_weights_and_leave_the_global_generator_alone() -> None:
    before = torch.random.get_rng_state()
    first, second = (
        TwoHeads(12, 16, 4, torch.Generator().manual_seed(3)),
        TwoHeads(12, 16, 4, torch.Generator().manual_seed(3)),
    )
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)
    other = TwoHeads(12, 16, 4, torch.Generator().manual_seed(4))
    assert not torch.equal(first.feature.weight, other.feature.weight)
    assert torch.equal(before, torch.random.get_rng_state())


def test_save_and_load_give_equal_codes(tmp_path: Path) -> None:
    saved, X = head(), torch.randn(5, 12)
    saved.save(tmp_path / "head.safetensors")
    loaded = Head.load(tmp_path / "head.safetensors")
    assert torch.equal(loaded.project(X, 8).Z, saved.project(X, 8).Z)
    assert torch.equal(loaded.project(X, 8).C, saved.project(X, 8).C)


def test_copy_makes_the_heads_equal() -> None:
    network = head()
    network.copy_feature_to_cluster()
    Z, C = network.project(torch.randn(5, 12), 8)
    assert torch.equal(Z, C)


def test_another_file_and_another_dimension_are_errors(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match=r"other\.safetensors is not a head"):
        Head.load(tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="features have dimension 13, the head was trained on 12"):
        head().project(torch.zeros(2, 13), 8)
