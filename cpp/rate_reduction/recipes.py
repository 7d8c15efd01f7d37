"""Settings of the two recipes that train a head. Imports no torch, so that a configuration is read quickly."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field


class Discriminant(BaseModel, frozen=True, extra="forbid", strict=True):
    """The default: the linear map with the largest rate reduction between neighbours, in closed form."""

    recipe: Literal["discriminant"] = "discriminant"
    dim: int | None = Field(None, ge=1, description="dimension d of the codes; null: twice the clusters, 32 to 256")
    neighbours: int | None = Field(
        None,
        ge=1,
        description="nearest rows that represent the group of a row; null: half the mean cluster size, 5 to 50",
    )
    rounds: int = Field(
        2, ge=1, description="searches for neighbours; the first uses the features, later ones the codes"
    )
    shrinkage: float = Field(0.1, gt=0, description="regularisation of the scatter within groups")


class Paper(BaseModel, frozen=True, extra="forbid", strict=True):
    """The published training; the defaults are the paper's for CIFAR-10 (2306.05272, appendix)."""

    recipe: Literal["paper"] = "paper"
    hidden: int = Field(4096, ge=1, description="width of the trunk")
    dim: int = Field(128, ge=1, description="dimension d of the codes")
    batch: int = Field(1024, ge=2, description="samples m in a step; a step costs m d^2 for each column")
    columns: int | None = Field(None, ge=1, description="columns of the membership drawn for a step; null: all")
    epochs: int = Field(15, ge=1, description="passes over the sample after the warm-up")
    warmup_steps: int = Field(50, ge=0, description="steps on -R alone; then the cluster head copies the feature head")
    lr: float = Field(1e-4, gt=0, description="learning rate of trunk and feature head (SGD)")
    lr_cluster: float = Field(1e-4, gt=0, description="learning rate of the cluster head")
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(1e-4, ge=0, description="of trunk and feature head")
    weight_decay_cluster: float = Field(5e-3, ge=0, description="of the cluster head")
    distortion: float = Field(0.1, gt=0, description="squared distortion e of every coding rate")
    gamma: float = Field(1.0, ge=0, description="weight of the compression R_c")
    pi_penalty: float = Field(0.05, ge=0, description="lambda, weight of ||Pi||_F^2 / 2")
    eta: float = Field(0.175, gt=0, description="temperature of the membership: low is sharp")
    half_steps: int = Field(5, ge=1, description="Sinkhorn half-steps")
    share_heads: bool = Field(False, description="make the membership from the feature head")
    precision: Literal["fp32", "bf16"] = Field("fp32", description="of the network's products; rates are always fp32")
