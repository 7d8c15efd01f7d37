"""CRATE, the white-box transformer: attention that compresses tokens, then a step of sparse coding. Knows no files.

Every block alternates the two halves of a descent on the sparse rate reduction R^c(Z | U) - R(Z) + lambda |Z|_0: MSSA
compresses the tokens against the subspaces of its heads, ISTA makes them sparse in a dictionary. The tokens of an image
are rows here and columns in the papers. Shape suffixes: b images, n tokens, h heads, p dimensions of a head, d = h p.

Sources: Yu et al., "White-Box Transformers via Sparse Rate Reduction", arXiv 2306.01129, section 2, and the longer
2311.13110; for the alpha variant Yang et al., "Scaling White-Box Transformers for Vision", arXiv 2405.20299, section 3.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import relu, scaled_dot_product_attention

STEP, LAMBDA = 0.1, 0.1  # step size and sparsity weight of ISTA; the alpha variant has the same
WIDER = 4  # atoms of the alpha variant's dictionary for each dimension
FIRST, ALPHA, CLIP = "crate", "crate-alpha", "crate-alpha-clip"  # the variants, as published


class Shape(NamedTuple):
    """The architecture: its variant, `dim` = d, `depth` blocks with `heads` each, and pixels of a patch and an image.

    `out` is the dimension of the joint space of a CLIP variant, and 0 for the others.
    """

    variant: str
    dim: int
    depth: int
    heads: int
    patch: int
    side: int
    out: int = 0


class MSSA(nn.Module):
    """Multi-head subspace self-attention: an approximate gradient step on R^c(Z | U) (2306.01129, section 2.3).

    Queries, keys and values of a head are the same projection U_k^T Z of the tokens onto the subspace of the head.
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.heads = shape.heads
        self.norm = nn.LayerNorm(shape.dim, 1e-5 if shape.variant == FIRST else 1e-6)
        self.subspaces = nn.Linear(shape.dim, shape.dim, bias=False)
        self.out = nn.Linear(shape.dim, shape.dim, bias=shape.variant == FIRST)

    def project(self, Z_bnd: Tensor) -> Tensor:
        """U_k^T Z for the subspace of every head: `[b, h, n, p]`."""
        projected: Tensor = self.subspaces(self.norm(Z_bnd))
        return projected.reshape(*Z_bnd.shape[:2], self.heads, -1).transpose(1, 2)

    def forward(self, Z_bnd: Tensor) -> Tensor:
        """The step that is added to the tokens."""
        W_bhnp = self.project(Z_bnd)
        step: Tensor = self.out(scaled_dot_product_attention(W_bhnp, W_bhnp, W_bhnp).transpose(1, 2).flatten(2))
        return step


class ISTA(nn.Module):
    """One proximal gradient step of the non-negative LASSO in a complete dictionary (2306.01129, section 2.4)."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(shape.dim)
        self.dictionary = nn.Parameter(nn.init.kaiming_uniform_(torch.empty(shape.dim, shape.dim)))

    def code(self, Z_bnd: Tensor) -> Tensor:
        """The sparse code of the tokens, `[b, n, d]`, at least 0."""
        X = self.norm(Z_bnd)
        return relu(X + STEP * ((X - X @ self.dictionary.mT) @ self.dictionary - LAMBDA))

    def tokens(self, Z_bnd: Tensor, code: Tensor) -> Tensor:
        """The tokens after the step, which are the code itself."""
        return code


class OvercompleteISTA(nn.Module):
    """Two ISTA steps from zero in an overcomplete dictionary, decoded by another, and added (2405.20299, section 3)."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        size = shape.dim, WIDER * shape.dim
        self.norm = nn.LayerNorm(shape.dim, 1e-6)
        self.dictionary = nn.Parameter(nn.init.kaiming_uniform_(torch.empty(size)))
        self.decoder = nn.Parameter(nn.init.kaiming_uniform_(torch.empty(size)))

    def code(self, Z_bnd: Tensor) -> Tensor:
        """The sparse code of the tokens, `[b, n, 4 d]`, at least 0."""
        X, D = self.norm(Z_bnd), self.dictionary
        first = relu(STEP * (X @ D - LAMBDA))
        return relu(first + STEP * ((X - first @ D.mT) @ D - LAMBDA))

    def tokens(self, Z_bnd: Tensor, code: Tensor) -> Tensor:
        """The tokens after the step."""
        return Z_bnd + code @ self.decoder.mT


class Block(nn.Module):
    """Z -> Z + MSSA(Z) -> ISTA."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.mssa = MSSA(shape)
        self.ista = ISTA(shape) if shape.variant == FIRST else OvercompleteISTA(shape)

    def forward(self, Z_bnd: Tensor) -> Tensor:
        """The tokens after both steps, `[b, n, d]`."""
        half = Z_bnd + self.mssa(Z_bnd)
        return self.ista.tokens(half, self.ista.code(half))


class Step(NamedTuple):
    """What a block does to the tokens: U_k^T Z before and after its attention, `[b, h, n, p]`, and the sparse code."""

    before: Tensor
    after: Tensor
    code: Tensor


class PatchPixels(nn.Module):
    """Images `[b, 3, side, side]` -> the pixels of their patches, `[b, patches, patch * patch * 3]`, colours last."""

    def __init__(self, patch: int) -> None:
        super().__init__()
        self.patch = patch

    def forward(self, pixels: Tensor) -> Tensor:
        """The patches in rows from the upper left one."""
        (n, colours, height, width), p = pixels.shape, self.patch
        split = pixels.reshape(n, colours, height // p, p, width // p, p)
        return split.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)


class Crate(nn.Module):
    """The encoder of a shape, with random weights. The class token is the first token.

    `grid_size` (rows and columns of patches) and `cls_token` are called as in timm's models.
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        dim, patch = shape.dim, shape.patch
        self.shape, self.grid_size = shape, (shape.side // patch, shape.side // patch)
        if shape.variant == FIRST:
            pixels = 3 * patch**2
            embed = nn.LayerNorm(pixels), nn.Linear(pixels, dim), nn.LayerNorm(dim)
            self.patches = nn.Sequential(PatchPixels(patch), *embed)
        else:
            conv = nn.Conv2d(3, dim, patch, patch, bias=shape.variant == ALPHA)
            self.patches = nn.Sequential(conv, nn.Flatten(2))
        self.cls_token = nn.Parameter(torch.randn(dim))
        self.position = nn.Parameter(torch.randn(math.prod(self.grid_size) + 1, dim))
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.depth))
        self.norm = nn.LayerNorm(dim, 1e-6 if shape.variant == CLIP else 1e-5)
        self.projection = nn.Parameter(torch.randn(dim, shape.out) * dim**-0.5) if shape.out else None

    def forward(self, pixels: Tensor, pool: str | None = None) -> Tensor:
        """Normalised pixels `[b, 3, side, side]` -> features `[b, d]`: the class token as a classifier gets it.

        With `pool` "mean" the mean of the tokens of patches takes its place. Those of a CLIP variant are in the joint
        space, `[b, out]`.
        """
        Z = self._tokens(pixels)
        for block in self.blocks:
            Z = block(Z)
        features: Tensor = self.norm(Z[:, 1:].mean(1) if pool == "mean" else Z[:, 0])
        return features if self.projection is None else features @ self.projection

    def steps(self, pixels: Tensor) -> Iterator[Step]:
        """Yield what each block does to the tokens of the images."""
        Z = self._tokens(pixels)
        for block in cast("Iterable[Block]", self.blocks):
            half = Z + block.mssa(Z)
            code = block.ista.code(half)
            yield Step(block.mssa.project(Z), block.mssa.project(half), code)
            Z = block.ista.tokens(half, code)

    def _tokens(self, pixels: Tensor) -> Tensor:
        patches = self.patches(pixels)
        patches = patches if self.shape.variant == FIRST else patches.mT
        cls_token = self.cls_token.expand(len(patches), 1, -1)
        return torch.cat([cls_token, patches], dim=1) + self.position
