"""`CPP`: the clustering of a run as a scikit-learn estimator, for features that fit in memory.

It uses the same code as the stages of a run. Knows no files except those that it saves.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Literal, Self, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, ClusterMixin, TransformerMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data
from torch.nn.functional import normalize

from cpp.clustering.estimate_k import estimate_k
from cpp.clustering.layers import build_layers
from cpp.clustering.partition import BATCH, HALF_STEPS, Method, fine_groups
from cpp.naming.names import Name, names
from cpp.naming.vocabulary import Vocabulary
from cpp.naming.votes import vote
from cpp.nearest import Nearest
from cpp.rate_reduction import fit, recipes
from cpp.rate_reduction.copies import distinct_rows
from cpp.rate_reduction.head import Codes, Head
from cpp.rate_reduction.sinkhorn import membership

RECIPES: dict[str, type[recipes.Discriminant | recipes.Paper]] = {
    "discriminant": recipes.Discriminant,
    "paper": recipes.Paper,
}
DIRECTIONS = 32  # principal directions of the codes in which coding lengths are measured


class CPP(ClassNamePrefixFeaturesOutMixin, TransformerMixin, ClusterMixin, BaseEstimator):  # type: ignore[misc]
    """Clustering via the principle of rate reduction (Chu et al., arXiv 2306.05272) of feature rows.

    Parameters: `n_clusters` is K; None estimates it. `recipe` is "discriminant", the linear map in closed form, or
    "paper", the published training; `settings` are fields of the recipe (`cpp.rate_reduction.recipes.Discriminant` or
    `Paper`), such as {"epochs": 5}. `method`, `eta` and `landmarks` are those of `cpp.clustering.partition.partition`.
    `device` is "cpu" or "cuda". `random_state` seeds all random draws.

    Rows may be those of several encoders: wherever `X` is expected, a list of arrays `[n, D_i]` stands for their rows,
    each scaled to unit length and multiplied by the square root of its share of `weights` (None: equal weights), side
    by side. The cosine of two rows is then the weighted mean of their cosines.

    Attributes after `fit`: `labels_` `[n]` int64; `n_clusters_`; `cluster_centers_` `[F, d]`, float32 unit rows in the
    space of codes, and `center_labels_` `[F]`, the cluster of each centre; `n_copies_`, the number of rows that are
    copies of others and do not count in the estimate of K (`cpp.rate_reduction.copies`); `choice_`, this estimate
    (`cpp.clustering.estimate_k.Estimate`, whose `low` and `high` are the interval of K), None if K was given; `tree_`,
    the merge tree of the centres, whose `cut(K)` gives `center_labels_` for a smaller K; `head_`, `loss_` (the record
    of the training), `n_features_in_`.
    """

    def __init__(
        self,
        n_clusters: int | None = 8,
        *,
        recipe: Literal["discriminant", "paper"] = "discriminant",
        settings: dict[str, Any] | None = None,
        method: Method = "auto",
        eta: float = 0.1,
        landmarks: int = 8192,
        weights: Sequence[float] | None = None,
        device: str = "cpu",
        random_state: Any = None,
    ) -> None:
        self.n_clusters = n_clusters
        self.recipe = recipe
        self.settings = settings
        self.method = method
        self.eta = eta
        self.landmarks = landmarks
        self.weights = weights
        self.device = device
        self.random_state = random_state

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]  # codes are float32 for rows of any type
        return tags

    def fit(self, X: Any, y: Any = None) -> Self:
        """Learn codes, centroids and `labels_` from feature rows `[n, D]`, numpy or torch, or a list of such arrays.

        `y` is ignored. ValueError if arrays of a list differ in length, or in number from `weights`.
        """
        rows = self._rows(X, reset=True)
        self._check_parameters(len(rows))
        settings = RECIPES[self.recipe](**(self.settings or {}))
        seed = int(check_random_state(self.random_state).randint(2**31))
        K = None if self.n_clusters is None else int(self.n_clusters)
        distinct = distinct_rows(rows, self.device == "cuda")
        self.choice_, isolated = None, K is not None
        if K is None:
            discriminant = settings if isinstance(settings, recipes.Discriminant) else recipes.Discriminant()
            self.choice_ = estimate_k(rows, discriminant, seed, self.device, distinct)
            K = self.choice_.best
        self.head_, self.loss_ = fit.fit(rows, settings, K, seed, self.device, distinct=distinct)
        codes = self.head_.project(rows, BATCH)
        groups = fine_groups(
            codes,
            distinct,
            n_clusters=K,
            method=self.method,
            eta=self.eta,
            landmarks=self.landmarks,
            directions=DIRECTIONS,
            isolated=isolated,
            seed=seed,
            gpu=self.device == "cuda",
        )
        measured = groups.moments([codes.Z.numpy()], BATCH, self.device == "cuda")
        layers = build_layers(groups, measured.moments, [])
        self.n_copies_ = measured.copies
        self.tree_, self.n_clusters_ = layers.tree, layers.main
        self.cluster_centers_, self.center_labels_ = groups.centroids, layers.clusters[layers.main]
        self.labels_ = self._nearest(codes)
        if self.n_clusters_ < K:
            warnings.warn(
                f"n_clusters is {K}, but the {len(rows)} rows have only {self.n_clusters_} groups of different codes: "
                "reduce n_clusters, or remove copies from the rows",
                ConvergenceWarning,
                stacklevel=2,
            )
        return self

    def predict(self, X: Any) -> NDArray[np.int64]:
        """The cluster of each row, `[n]`: the cluster of the centre nearest to its code."""
        return self._nearest(self._codes(X))

    def transform(self, X: Any) -> NDArray[np.float32]:
        """Codes z of the rows, `[n, d]`, unit vectors."""
        codes: NDArray[np.float32] = self._codes(X).Z.numpy()
        return codes

    def membership(self, X: Any) -> NDArray[np.float32]:
        """The doubly stochastic membership `[n, n]` among the rows, at the temperature `eta`."""
        Pi: NDArray[np.float32] = membership(self._codes(X).C, self.eta, HALF_STEPS)[0].numpy()
        return Pi

    def name(
        self,
        words: Sequence[str],
        word_vectors: Any,
        X: Any,
        *,
        images: Any = None,
        min_confidence: float = 0.5,
        top: int = 5,
    ) -> list[Name]:
        """The name of each cluster, by cluster number, from the rows `X` `[n, D]` of images, such as those of `fit`.

        `word_vectors` `[n_words, E]` are the vectors of `words` by the text tower of the model that made `images`
        `[n, E]`, rows of the same images; None: `X`, if the model that made them has a text tower. The answer for a
        cluster is a name, a more general name or a guess (`cpp.naming.names.Name`), as in a run with the settings
        `label.min_confidence` and `label.top`. A cluster without a row has none. ValueError if words and vectors, or
        images and rows, are not of one number, or the vectors have another dimension than the images.
        """
        check_is_fitted(self)
        vectors, rows = np.asarray(word_vectors, np.float32), self._rows(X, reset=False)
        compared = rows if images is None else torch.from_numpy(_array(images, "images"))
        _check_finite(compared.numpy(), "images")
        if len(compared) != len(rows):
            raise ValueError(f"images has {len(compared)} rows and X {len(rows)}: give a row of each for every image")
        if vectors.shape != (len(words), compared.shape[1]):
            raise ValueError(
                f"word_vectors has the shape {vectors.shape}, must be ({len(words)}, {compared.shape[1]}): a row for "
                "each of the words, with as many columns as the rows of images by the model with the text tower"
            )
        vocabulary = Vocabulary.of(words, vectors)
        cluster, unit = self._nearest(self.head_.project(rows, BATCH)).astype(np.int32), normalize(compared)
        mean = unit.mean(0, dtype=torch.float64).to(torch.float32)
        votes = vote(unit, cluster, vocabulary, mean, top, BATCH, self.device).votes
        size = np.bincount(cluster, minlength=int(self.center_labels_.max()) + 1)
        return names(votes, size, vocabulary, top, sure=min_confidence)

    def save(self, folder: str | Path) -> None:
        """Save the head, the centres and the parameters for `load`, without `labels_` and `loss_`."""
        check_is_fitted(self)
        Path(folder).mkdir(parents=True, exist_ok=True)
        self.head_.save(Path(folder) / "head.safetensors")
        arrays: dict[str, Any] = {"centroids": self.cluster_centers_, "cluster": self.center_labels_}
        save_file(arrays, Path(folder) / "groups.safetensors")
        parameters = {k: v for k, v in self.get_params().items() if k != "random_state" or isinstance(v, int | None)}
        as_text = json.dumps(parameters, indent=2, default=lambda value: value.tolist())  # of numpy
        (Path(folder) / "estimator.json").write_text(as_text + "\n")

    @classmethod
    def load(cls, folder: str | Path) -> CPP:
        """Load a saved estimator, which predicts and transforms as before."""
        estimator = cls(**json.loads((Path(folder) / "estimator.json").read_text()))
        estimator.head_ = Head.load(Path(folder) / "head.safetensors", estimator.device)
        estimator.n_features_in_ = estimator.head_.in_dim
        arrays = load_file(Path(folder) / "groups.safetensors")
        estimator.cluster_centers_, estimator.center_labels_ = arrays["centroids"], arrays["cluster"]
        return estimator

    @property
    def _n_features_out(self) -> int:
        return int(self.cluster_centers_.shape[1])

    def _check_parameters(self, n: int) -> None:
        K, bounds = self.n_clusters, f"None or a whole number from 1 to the number of samples, {n}"
        devices = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
        for name, valid, expected in (
            ("n_clusters", K is None or (_whole(K) and 1 <= K <= n), bounds),
            ("recipe", self.recipe in RECIPES, f"one of {', '.join(RECIPES)}"),
            ("method", self.method in get_args(Method), f"one of {', '.join(get_args(Method))}"),
            ("eta", isinstance(self.eta, Real) and self.eta > 0, "a number above 0"),
            ("landmarks", _whole(self.landmarks) and self.landmarks >= 1, "a whole number from 1"),
            ("device", self.device in devices, f"{' or '.join(devices)}, the devices of this machine"),
        ):
            if not valid:
                raise ValueError(f"{name} is {getattr(self, name)!r}, must be {expected}")

    def _rows(self, X: Any, reset: bool) -> torch.Tensor:
        rows = self._joined(X) if _is_several(X) else _numpy(X)
        settings: dict[str, Any] = {"dtype": [np.float32, np.float64], "ensure_min_samples": 2 if reset else 1}
        checked = validate_data(self, rows, reset=reset, ensure_all_finite=False, **settings)
        with np.errstate(over="ignore"):
            rows = np.array(checked, np.float32)
        _check_finite(rows, "X")
        return torch.from_numpy(rows)

    def _joined(self, arrays: Sequence[Any]) -> NDArray[np.float32]:
        """Unit rows of several arrays side by side, each array scaled by the root of its share of the weights."""
        parts = [_array(part, f"X[{i}]") for i, part in enumerate(arrays)]
        if len(lengths := {len(part) for part in parts}) > 1:
            raise ValueError(f"the arrays of X have {sorted(lengths)} rows: give the same images in all, row by row")
        weights = np.ones(len(parts)) if self.weights is None else np.asarray(self.weights, np.float64)
        if weights.shape != (len(parts),) or not (weights > 0).all() or not np.isfinite(weights).all():
            raise ValueError(f"weights is {self.weights!r}, must be {len(parts)} positive numbers, one for each array")
        for i, part in enumerate(parts):
            _check_finite(part, f"X[{i}]")
        units = [normalize(torch.from_numpy(part)).numpy() for part in parts]
        scales = np.sqrt(weights / weights.sum()).astype(np.float32)
        return np.concatenate([unit * scale for unit, scale in zip(units, scales, strict=True)], axis=1)

    def _codes(self, X: Any) -> Codes:
        check_is_fitted(self)
        return self.head_.project(self._rows(X, reset=False), BATCH)

    def _nearest(self, codes: Codes) -> NDArray[np.int64]:
        nearest = Nearest(self.cluster_centers_, self.device == "cuda", self.center_labels_)
        cluster: NDArray[np.int64] = nearest(codes.Z.numpy(), BATCH).cluster.astype(np.int64)
        return cluster


def _whole(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _numpy(X: Any) -> Any:
    return X.detach().cpu().to(torch.float32).numpy() if isinstance(X, torch.Tensor) else X


def _is_several(X: Any) -> bool:
    """Whether X is a list of arrays, in place of one array or a list of rows."""
    return isinstance(X, list | tuple) and len(X) > 0 and all(getattr(part, "ndim", 0) == 2 for part in X)


def _array(X: Any, name: str) -> NDArray[np.float32]:
    """A matrix as float32. ValueError for anything else."""
    rows = np.asarray(_numpy(X), np.float32)
    if rows.ndim != 2:
        raise ValueError(f"{name} has the shape {rows.shape}, must be a matrix with a row for each image")
    return rows


def _check_finite(rows: NDArray[np.float32], name: str) -> None:
    """ValueError, which names the first of them, for rows that are not finite."""
    if len(bad := np.flatnonzero(~np.isfinite(rows).all(1))):
        raise ValueError(
            f"{len(bad)} of the {len(rows)} rows of {name}, the first of them row {bad[0]}, contain NaN, inf or values "
            "too large for float32: remove these rows, or fill in or scale their values"
        )
