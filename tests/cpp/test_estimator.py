"""CPP as scikit-learn expects an estimator to be, and as the stages compute it."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import parametrize_with_checks

from cpp import CPP
from cpp.evaluation.metrics import scores
from tests.support.vectors import nuisance


@parametrize_with_checks([CPP(n_clusters=3), CPP(n_clusters=2, recipe="paper", settings={"hidden": 8, "epochs": 2})])
def test_scikit_learn(estimator: Any, check: Any) -> None:
    check(estimator)


def test_clusters_are_found_and_kept_for_new_rows() -> None:
    X, group = nuisance(1500, 12, 1.5)
    model = CPP(12, random_state=0).fit(X[:1200].numpy())
    assert model.labels_.dtype == np.int64
    assert scores(group[:1200], model.labels_).ari > 0.99
    assert np.array_equal(model.predict(X[:1200]), model.labels_)
    assert scores(group[1200:], model.predict(X[1200:])).ari > 0.99
    assert np.array_equal(CPP(12, random_state=0).fit_predict(X[:1200]), model.labels_)
    codes = model.transform(X[1200:])
    np.testing.assert_allclose(np.linalg.norm(codes, axis=1), 1, atol=1e-5)
    assert list(model.get_feature_names_out())[:2] == ["cpp0", "cpp1"]


def test_without_k_it_is_found_and_another_one_can_be_cut(tmp_path: Path) -> None:
    X, group = nuisance(1500, 12, 1.5)
    model = CPP(None, random_state=0).fit(X)
    assert model.n_clusters_ == model.choice_.best == 12
    assert scores(group, model.labels_).ari > 0.99
    assert len(model.center_labels_) == len(model.cluster_centers_) == 12
    assert set(model.tree_.cut(5).tolist()) == set(range(5))
    model.save(tmp_path)
    assert np.array_equal(CPP.load(tmp_path).predict(X), model.labels_)


@pytest.mark.parametrize("method", ["spectral", "kmeans"])
def test_labels_are_what_predict_says_where_nothing_is_clear(method: Any) -> None:
    X = torch.randn(400, 6, generator=torch.Generator().manual_seed(0))
    model = CPP(7, method=method, random_state=0).fit(X)
    assert np.array_equal(model.predict(X), model.labels_)


def test_membership_is_doubly_stochastic_and_follows_the_clusters() -> None:
    X, group = nuisance(240, 4, 1.5)
    Pi = CPP(4, random_state=0).fit(X).membership(X)
    np.testing.assert_allclose(Pi.sum(1), 1, atol=1e-4)
    np.testing.assert_allclose(Pi.sum(0), 1, atol=0.1)  # five half-steps end on a row
    same = (group[:, None] == group).numpy()
    assert Pi[same].mean() > 20 * Pi[~same].mean()


def test_saved_and_loaded_it_predicts_the_same(tmp_path: Path) -> None:
    X, _ = nuisance(300, 4, 1.0)
    model = CPP(4, random_state=1).fit(X)
    model.save(tmp_path / "model")
    loaded = CPP.load(tmp_path / "model")
    assert np.array_equal(loaded.predict(X), model.labels_)
    assert np.array_equal(loaded.transform(X), model.transform(X))
    assert loaded.get_params() == model.get_params()


def test_it_is_a_step_of_a_pipeline() -> None:
    X, group = nuisance(600, 6, 1.5)
    labels = make_pipeline(FunctionTransformer(), CPP(6, random_state=0)).fit_predict(X.numpy())
    assert scores(group, labels).ari > 0.99


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_clusters": 41}, "n_clusters is 41, must be None or a whole number from 1 to the number of samples, 40"),
        ({"n_clusters": 0}, "n_clusters is 0, must be None or a whole number from 1"),
        ({"n_clusters": 3.0}, "n_clusters is 3.0, must be None or a whole number"),
        ({"n_clusters": "3"}, "n_clusters is '3', must be None or a whole number"),
        ({"n_clusters": True}, "n_clusters is True, must be None or a whole number"),
        ({"recipe": "papers"}, "recipe is 'papers', must be one of discriminant, paper"),
        ({"method": "ward"}, "method is 'ward', must be one of auto, kmeans, spectral"),
        ({"eta": 0}, "eta is 0, must be a number above 0"),
        ({"landmarks": 20.5}, "landmarks is 20.5, must be a whole number from 1"),
        ({"device": "gpu"}, "device is 'gpu', must be cpu"),
        ({"settings": {"neighbors": 3}}, "neighbors"),
    ],
)
def test_bad_parameters_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CPP(**settings).fit(torch.randn(40, 6))


@pytest.mark.parametrize(("value", "dtype"), [(np.nan, np.float32), (np.inf, np.float32), (1e300, np.float64)])
def test_rows_that_are_not_finite_are_counted_and_the_first_is_named(value: float, dtype: Any) -> None:
    X = np.random.default_rng(0).standard_normal((40, 6)).astype(dtype)
    model = CPP(3, random_state=0).fit(X)
    X[[7, 9], 2] = value
    for use in (model.fit, model.predict):
        with pytest.raises(
            ValueError, match=r"2 of the 40 rows of X, the first of them row 7, contain NaN, .*: remove these rows"
        ):
            use(X)


def test_rows_of_every_float_are_taken() -> None:
    X, group = nuisance(200, 4, 1.0)
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        assert scores(group, CPP(4, random_state=0).fit_predict(X.to(dtype))).ari > 0.99


def test_a_number_of_numpy_is_a_number_of_clusters(tmp_path: Path) -> None:
    X, group = nuisance(200, 4, 1.0)
    model = CPP(np.int64(4), random_state=0).fit(X)
    assert scores(group, model.labels_).ari == 1
    model.save(tmp_path)
    assert CPP.load(tmp_path).n_clusters == 4


def test_fewer_different_rows_than_clusters_are_a_warning() -> None:
    X = np.random.default_rng(0).standard_normal((3, 6)).repeat(20, 0)
    message = "n_clusters is 5, but the 60 rows have only 3 groups of different codes: reduce n_clusters"
    with pytest.warns(ConvergenceWarning, match=re.escape(message)):
        model = CPP(5, random_state=0).fit(X)
    assert model.n_clusters_ == 3
    assert scores(np.arange(3).repeat(20), model.labels_).ari == 1


def test_edges_of_size_have_an_answer() -> None:
    rng = np.random.default_rng(0)
    group = np.arange(3).repeat(20)
    wide = 3 * rng.standard_normal((3, 512))[group] + rng.standard_normal((60, 512))  # more columns than rows
    for K, rows, right in ((3, wide, group), (1, wide, np.zeros(60)), (60, wide, np.arange(60)), (2, wide[:2], [0, 1])):
        assert scores(right, CPP(K, random_state=0).fit_predict(rows)).ari == 1
    assert scores(group, CPP(None, random_state=0).fit_predict(wide)).ari == 1
    with pytest.raises(ValueError, match="1 sample"):
        CPP(1).fit(wide[:1])


def test_names_by_hand_and_of_a_loaded_model(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    X = torch.eye(8).repeat_interleave(30, 0) + 0.05 * torch.randn(240, 8, generator=generator)
    words = ["cat", "dog", "car", "ship", "tree", "chair", "piano", "spoon"]
    model = CPP(8, random_state=0).fit(X)
    answers = model.name(words, np.eye(8), 3 * X)  # rows need not have unit length
    assert [name.name for name in answers] == [words[int(X[model.labels_ == k].mean(0).argmax())] for k in range(8)]
    assert {name.status for name in answers} == {"named"}
    model.save(tmp_path)
    assert CPP.load(tmp_path).name(words, np.eye(8), 3 * X) == answers
    assert {name.status for name in model.name(words, np.eye(8), X, min_confidence=1.0)} == {"unsure"}
    without = model.name(words, np.eye(8), X[model.labels_ != 0])
    assert (without[0].guess, len(without)) == (None, 8)
    with pytest.raises(ValueError, match=re.escape("word_vectors has the shape (8, 7), must be (8, 8)")):
        model.name(words, np.eye(8)[:, :7], X)


def test_groups_that_two_encoders_see_only_together(tmp_path: Path) -> None:
    """One encoder sees which of 3 groups a row is of, the other which of 4: together 12 clusters."""
    (A, a), (B, b) = nuisance(1500, 3, 1.5), nuisance(1500, 4, 1.5)
    b = b[order := np.random.default_rng(0).permutation(len(b))]
    A, B, group = A.numpy(), 7 * B.numpy()[order], 4 * a + b
    model = CPP(12, random_state=0).fit([A, B])
    assert model.n_features_in_ == A.shape[1] + B.shape[1]
    assert scores(group, model.labels_).ari > 0.85
    assert scores(group, CPP(12, random_state=0).fit(A).labels_).ari < 0.5
    assert np.array_equal(model.predict([A[:9], torch.from_numpy(B[:9])]), model.labels_[:9])
    heavy = CPP(12, weights=[3, 1], random_state=0).fit([A, B])
    heavy.save(tmp_path)
    assert np.array_equal(CPP.load(tmp_path).predict([A, B]), heavy.labels_)


def test_weights_are_shares_of_the_cosine() -> None:
    A, B = np.random.default_rng(0).standard_normal((2, 50, 4)).astype(np.float32)
    a, b = (X / np.linalg.norm(X, axis=1, keepdims=True) for X in (A, B))
    joined = CPP(weights=[3, 1])._joined([A, 5 * B])
    np.testing.assert_allclose(joined @ joined.T, (3 * a @ a.T + b @ b.T) / 4, atol=1e-6)


def test_clusters_of_one_encoder_are_named_by_another() -> None:
    generator = torch.Generator().manual_seed(0)
    near, of_row = nuisance(240, 8, 1.5)
    group = of_row.numpy()
    X = torch.eye(8)[of_row] + 0.05 * torch.randn(240, 8, generator=generator)
    words = ["cat", "dog", "car", "ship", "tree", "chair", "piano", "spoon"]
    model = CPP(8, random_state=0).fit(near)
    answers = model.name(words, np.eye(8), near, images=X)
    assert [name.name for name in answers] == [words[np.bincount(group[model.labels_ == k]).argmax()] for k in range(8)]
    with pytest.raises(ValueError, match=r"images has 9 rows and X 240: give a row"):
        model.name(words, np.eye(8), near, images=X[:9])
    with pytest.raises(ValueError, match=re.escape("must be (8, 40)")):
        model.name(words, np.eye(8), near)


@pytest.mark.parametrize(
    ("arrays", "weights", "message"),
    [
        ([(9, 2), (8, 2)], None, "the arrays of X have [8, 9] rows: give the same images in all"),
        ([(9, 2), (9, 2)], [1], "weights is [1], must be 2 positive numbers, one for each array"),
        ([(9, 2), (9, 2)], [1, 0], "weights is [1, 0], must be 2 positive"),
    ],
)
def test_arrays_that_do_not_fit_together_are_an_error(
    arrays: list[tuple[int, int]], weights: list[float] | None, message: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        CPP(2, weights=weights).fit([np.ones(shape) for shape in arrays])
    bad = np.ones((9, 2))
    bad[3] = np.nan
    with pytest.raises(ValueError, match=re.escape("1 of the 9 rows of X[1], the first of them row 3")):
        CPP(2).fit([np.ones((9, 2)), bad])
