"""Networks that map frozen features to codes; `fit` trains them.

`LinearHead` is one linear map; `TwoHeads` is the paper's network: a trunk, a feature head and a cluster head.
Source: Chu et al., arXiv 2306.05272, section 3 and appendix; layers as in the authors' code. Knows no data files.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import safe_open
from safetensors.torch import load_model, save_model
from torch import Tensor, nn
from torch.nn.functional import normalize


class Codes(NamedTuple):
    """Unit rows `[m, d]`: `Z` is clustered, and the membership is computed from `C`. Both are equal in a LinearHead."""

    Z: Tensor
    C: Tensor

    def rows(self, selected: Any) -> Codes:
        """The codes of selected rows."""
        return Codes(self.Z[selected], self.C[selected])


class Head(nn.Module):
    """A network from features `[m, in_dim]` to `Codes`; `shape` holds the arguments of its constructor."""

    def __init__(self, **shape: int) -> None:
        super().__init__()
        self.shape, self.in_dim = shape, shape["in_dim"]

    @torch.no_grad()
    def project(self, X: Tensor, batch: int) -> Codes:
        """Compute the codes `[n, dim]` of features `[n, in_dim]` in eval mode, `batch` rows at a time, on the CPU.

        The computation runs on the head's device. ValueError if the features have another dimension than `in_dim`.
        """
        if X.shape[1] != self.in_dim:
            raise ValueError(f"features have dimension {X.shape[1]}, the head was trained on {self.in_dim}")
        self.eval()
        device = next(self.parameters()).device
        parts = [self(rows.to(device, torch.float32)) for rows in X.split(batch)]
        return Codes(torch.cat([p.Z.cpu() for p in parts]), torch.cat([p.C.cpu() for p in parts]))

    def save(self, path: str | Path) -> None:
        """Write weights and shape as safetensors (never pickle)."""
        save_model(self, str(path), {"head": json.dumps({"kind": type(self).__name__, **self.shape})})

    @classmethod
    def load(cls, path: str | Path, device: str = "cpu") -> Head:
        """Read a saved head. ValueError if the metadata of the file has no entry `head`."""
        with safe_open(path, framework="pt") as file:
            metadata = (file.metadata() or {}).get("head")
        if metadata is None:
            raise ValueError(f"{path} is not a head: its safetensors metadata has no entry 'head'")
        shape = json.loads(metadata)
        kinds: dict[str, type[Head]] = {"LinearHead": LinearHead, "TwoHeads": TwoHeads}
        head = kinds[shape.pop("kind")](**shape)
        load_model(head, path)
        return head.to(device).eval()


class LinearHead(Head):
    """Z = C = the unit rows of W x + b."""

    def __init__(self, in_dim: int, dim: int) -> None:
        super().__init__(in_dim=in_dim, dim=dim)
        self.linear = nn.utils.skip_init(nn.Linear, in_dim, dim)

    @classmethod
    def of(cls, mean_D: Tensor, matrix_dD: Tensor) -> LinearHead:
        """The head that maps x to the unit vector of matrix (x - mean)."""
        head = cls(matrix_dD.shape[1], matrix_dD.shape[0])
        head.load_state_dict({"linear.weight": matrix_dD, "linear.bias": -matrix_dD @ mean_D})
        return head.eval()

    def forward(self, X: Tensor) -> Codes:
        Z = normalize(self.linear(X))
        return Codes(Z, Z)


class TwoHeads(Head):
    """The paper's network. `generator` draws the initial weights."""

    def __init__(self, in_dim: int, hidden: int, dim: int, generator: torch.Generator | None = None) -> None:
        super().__init__(in_dim=in_dim, hidden=hidden, dim=dim)
        first, second = (_linear(n, hidden, generator) for n in (in_dim, hidden))
        self.trunk = nn.Sequential(first, nn.BatchNorm1d(hidden), nn.ReLU(), second, nn.ReLU())
        self.feature, self.cluster = (_linear(hidden, dim, generator) for _ in range(2))

    def forward(self, X: Tensor) -> Codes:
        hidden = self.trunk(X)
        # mixed precision gives bfloat16 products, too coarse for rows of length 1
        Z, C = (normalize(head(hidden).to(head.weight.dtype)) for head in (self.feature, self.cluster))
        return Codes(Z, C)

    def copy_feature_to_cluster(self) -> None:
        """Copy the weights of the feature head to the cluster head, as at the end of the warm-up."""
        self.cluster.load_state_dict(self.feature.state_dict())


def _linear(in_dim: int, dim: int, generator: torch.Generator | None) -> nn.Linear:
    """A layer with torch's initial weights, drawn from a generator."""
    layer: nn.Linear = nn.utils.skip_init(nn.Linear, in_dim, dim)
    for weight in layer.parameters():
        nn.init.uniform_(weight, -(in_dim**-0.5), in_dim**-0.5, generator=generator)
    return layer
