"""The network on top of frozen features: one trunk, a feature head and a cluster head. How it is trained is in `fit`.

Source: Chu et al., arXiv 2306.05272, section 3 and appendix; layers as in the authors' code.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import normalize


class Codes(NamedTuple):
    """Unit rows: `Z` of the feature head and `C` of the cluster head, both `[m, d]`."""

    Z: Tensor
    C: Tensor


class Head(nn.Module):
    """features `[m, in_dim]` -> `Codes`. `generator` draws the initial weights."""

    def __init__(self, in_dim: int, hidden: int, dim: int, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.in_dim, self.hidden, self.dim = in_dim, hidden, dim
        with torch.random.fork_rng(devices=[]):  # the layers draw weights of their own that are not used
            self.trunk = nn.Sequential(
                nn.Linear(in_dim, hidden),
                nn.BatchNorm1d(hidden),
                nn.ReLU(),
                nn.Linear(hidden, hidden),
                nn.ReLU(),
            )
            self.feature = nn.Linear(hidden, dim)
            self.cluster = nn.Linear(hidden, dim)
        for layer in self.modules():
            if isinstance(layer, nn.Linear):  # torch's initialisation, from the generator that was passed
                bound = layer.in_features**-0.5
                nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
                nn.init.uniform_(layer.bias, -bound, bound, generator=generator)

    def forward(self, X: Tensor) -> Codes:
        hidden = self.trunk(X)
        return Codes(normalize(self.feature(hidden)), normalize(self.cluster(hidden)))

    def copy_feature_to_cluster(self) -> None:
        """Start the cluster head as a copy of the feature head (after the warm-up)."""
        self.cluster.load_state_dict(self.feature.state_dict())

    @torch.no_grad()
    def project(self, X: Tensor, batch: int) -> Codes:
        """Codes `[n, dim]` of features `[n, in_dim]`, in eval mode, `batch` rows at a time on the head's device.

        The codes come back to the CPU. ValueError where the dimension is not the one the head was trained on.
        """
        if X.shape[1] != self.in_dim:
            raise ValueError(f"features have dimension {X.shape[1]}, the head was trained on {self.in_dim}")
        self.eval()
        device = self.feature.weight.device
        parts = [self(rows.to(device, torch.float32)) for rows in X.split(batch)]
        return Codes(torch.cat([p.Z.cpu() for p in parts]), torch.cat([p.C.cpu() for p in parts]))

    def save(self, path: Path) -> None:
        """Write weights and shape as safetensors (never pickle)."""
        shape = {"in_dim": self.in_dim, "hidden": self.hidden, "dim": self.dim}
        weights = {name: tensor.detach().cpu().contiguous() for name, tensor in self.state_dict().items()}
        save_file(weights, path, metadata={"head": json.dumps(shape)})

    @classmethod
    def load(cls, path: str | Path, device: str = "cpu") -> Head:
        """Read what `save` wrote. A file without the `head` entry in its metadata is a ValueError."""
        with safe_open(path, framework="pt", device=device) as file:
            shape = (file.metadata() or {}).get("head")
            if shape is None:
                raise ValueError(f"{path} is not a head: its safetensors metadata has no entry 'head'")
            head = cls(**json.loads(shape))
            head.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118 (not a dict)
        return head.to(device).eval()
