"""Training: what it learns, what its record says, and how it stops."""

import json

import pytest
import torch
from pydantic import ValidationError

from cpp.clustering.spectral import spectral
from cpp.evaluation.metrics import scores
from cpp.rate_reduction.coding_rate import coding_rate, compressed_rate
from cpp.rate_reduction.fit import batches, objective, train
from cpp.rate_reduction.head import Codes, TwoHeads
from cpp.rate_reduction.recipes import Paper
from cpp.rate_reduction.sinkhorn import membership
from tests.support.golden import LOSS
from tests.support.golden import TRAINING as SMALL
from tests.support.vectors import subspaces


def test_gradients_reach_both_heads() -> None:
    X, _ = subspaces(64, 4, 2, 24, seed=0)
    head = TwoHeads(24, 32, 8, torch.Generator().manual_seed(0)).train()
    Z, C = head(X)
    loss = -coding_rate(Z, 0.1) + compressed_rate(Z, membership(C, 0.175, 5)[0], 0.1)
    loss.backward()
    for part in (head.trunk, head.feature, head.cluster):
        for name, weight in part.named_parameters():
            assert weight.grad is not None, name
            if not name.startswith("0.bias"):  # batch normalisation takes the bias before it away
                assert weight.grad.abs().max() > 0, name


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_unions_of_subspaces_are_recovered_exactly(seed: int) -> None:
    X, group = subspaces(1000, 5, 3, 32, seed)
    gentle = {"hidden": 512, "dim": 32, "batch": 256, "epochs": 10, "warmup_steps": 10, "lr": 1e-3, "lr_cluster": 1e-3}
    settings = SMALL.model_copy(update=gentle)
    head, _ = train(X, settings, seed)
    found = spectral(head.project(X, 1000).C, 5, settings.eta, settings.half_steps, seed)
    assert scores(group, found).ari == 1


def test_cluster_head_starts_as_a_copy_and_diverges() -> None:
    X, _ = subspaces(256, 4, 2, 24, seed=0)
    still = {"epochs": 1, "batch": 256, "lr": 1e-12, "lr_cluster": 1e-12}
    warm, _ = train(X, SMALL.model_copy(update=still), seed=0)
    apart, _ = train(X, SMALL, seed=0)
    assert (warm.cluster.weight - warm.feature.weight).abs().max() < 1e-6
    assert (apart.cluster.weight - apart.feature.weight).abs().max() > 1e-2


def test_record_has_every_step() -> None:
    X, _ = subspaces(256, 4, 2, 24, seed=0)
    seen: list[int] = []
    _, record = train(X, SMALL, seed=0, on_step=lambda row, n: seen.append(n))
    assert [row.step for row in record] == list(range(6 + 6 * 2))
    assert seen == [18] * 18
    assert [row.warmup for row in record] == [True] * 6 + [False] * 12
    for row in record[6:]:
        assert row.loss == pytest.approx(-row.R + row.R_c + 0.025 * row.pi_norm2, rel=1e-5)
    assert record[5].R > record[0].R  # the warm-up expands
    assert record[-1].R - record[-1].R_c > record[6].R - record[6].R_c  # and training raises the rate reduction


def test_loss_curve_equals_the_golden_curve() -> None:
    """Regenerate with `python -m tests.golden`; only a deliberate change of the method may change it."""
    golden = json.loads(LOSS.read_text())
    X, _ = subspaces(256, 4, 2, 24, seed=0)
    _, record = train(X, SMALL, seed=0)
    assert [row.loss for row in record] == pytest.approx(golden, rel=1e-4)


def test_equal_seeds_give_equal_heads() -> None:
    X, _ = subspaces(256, 4, 2, 24, seed=0)
    first, second, other = (train(X, SMALL, seed=s)[0].project(X, 256).Z for s in (0, 0, 1))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_batches_are_epochs_without_replacement() -> None:
    stream = batches(10, 4, torch.Generator().manual_seed(0))
    for _ in range(3):
        epoch = torch.cat([next(stream), next(stream)])
        assert len(set(epoch.tolist())) == 8


def test_a_batch_is_never_larger_than_the_data() -> None:
    X, _ = subspaces(40, 4, 2, 24, seed=0)
    assert len(train(X, SMALL, seed=0)[1]) == 6 + 6


def test_non_finite_loss_names_the_step_and_the_fix() -> None:
    X, _ = subspaces(64, 4, 2, 24, seed=0)
    X[3, 5] = torch.inf
    with pytest.raises(FloatingPointError, match=r"not finite at step 0 .* lower fit\.lr \(now 0\.02\)"):
        train(X, SMALL, seed=0)


def test_mixed_precision_keeps_codes_and_weights_in_float32() -> None:
    X, group = subspaces(1000, 5, 3, 32, seed=0)
    gentle = {"hidden": 512, "dim": 32, "batch": 256, "epochs": 10, "warmup_steps": 10, "lr": 1e-3, "lr_cluster": 1e-3}
    settings = SMALL.model_copy(update=gentle)
    (head, record), (_, plain) = (
        train(X, settings.model_copy(update={"precision": p}), seed=0) for p in ("bf16", "fp32")
    )
    losses, expected = (torch.tensor([row.loss for row in rows]) for rows in (record, plain))
    torch.testing.assert_close(losses, expected, rtol=0.02, atol=0.02)
    assert not torch.equal(losses, expected)
    assert {weight.dtype for weight in head.parameters()} == {torch.float32}
    with torch.autocast("cpu", torch.bfloat16):
        Z, C = head(X)
    torch.testing.assert_close(torch.cat([Z, C]).norm(dim=1), torch.ones(2000), rtol=1e-6, atol=1e-6)
    assert scores(group, spectral(head.project(X, 1000).C, 5, settings.eta, settings.half_steps, 0)).ari == 1


def test_bad_settings_are_errors() -> None:
    with pytest.raises(ValidationError, match="eta"):
        Paper(eta=0)


def test_shared_heads_use_z_for_the_membership() -> None:
    X, _ = subspaces(256, 4, 2, 24, seed=0)
    shared, apart = (
        train(X, SMALL.model_copy(update={"share_heads": share}), seed=0)[0].project(X, 256) for share in (True, False)
    )
    assert torch.equal(shared.Z, shared.C)
    assert not torch.allclose(apart.Z, apart.C)


def test_drawn_columns_give_an_unbiased_gradient() -> None:
    g = torch.Generator().manual_seed(0)
    codes = Codes(*(torch.nn.functional.normalize(torch.randn(128, 12, generator=g)).requires_grad_() for _ in "ZC"))

    def gradient(settings: Paper) -> torch.Tensor:
        loss, _ = objective(codes, settings, 0, False, g)
        return torch.cat([part.flatten() for part in torch.autograd.grad(loss, codes)])

    exact = gradient(SMALL)
    draws = torch.stack([gradient(SMALL.model_copy(update={"columns": 8})) for _ in range(300)])
    assert torch.cosine_similarity(draws.mean(0), exact, dim=0) > 0.99
    assert (draws.mean(0).norm() / exact.norm()).item() == pytest.approx(1, abs=0.05)
    assert torch.cosine_similarity(draws[0], exact, dim=0) < 0.99  # one draw is not the whole
    assert torch.equal(gradient(SMALL.model_copy(update={"columns": 500})), exact)
