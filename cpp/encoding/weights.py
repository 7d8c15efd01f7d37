"""Reads weight files without running code that they may contain, and identifies them by content. Knows no models."""

from __future__ import annotations

import functools
import hashlib
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")  # the last three are pickles; torch loads them with weights_only


class WeightsError(ValueError):
    """A model or its weights are missing or cannot be loaded."""


def sha256(path: str) -> str:
    """SHA-256 of the names, dtypes, shapes and bytes of all tensors: equal for equal weights in any file format.

    WeightsError if the file cannot be read, or contains anything other than tensors.
    """
    status = Path(path).stat()
    return _sha256(path, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=16)
def _sha256(path: str, size: int, mtime: int) -> str:
    digest = hashlib.sha256()
    tensors = read_tensors(path)
    for name in sorted(tensors):
        tensor = tensors[name].detach().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def read_tensors(path: str) -> Mapping[str, torch.Tensor]:
    """The tensors of a state dict by name, without the prefix `module.`. WeightsError as in `sha256`."""
    try:
        safe = path.endswith(".safetensors")
        content: Any = load_file(path) if safe else torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, SafetensorError, ValueError, OSError, EOFError) as error:
        raise WeightsError(
            f"{path} cannot be read as weights without running code in it: {str(error)[:300]}. "
            "Save the state dict as .safetensors"
        ) from error
    tensors = content.get("state_dict", content) if isinstance(content, dict) else None
    if not tensors or not all(isinstance(tensor, torch.Tensor) for tensor in tensors.values()):
        raise WeightsError(f"{path} is not a state dict (names and tensors): save the model's state_dict()")
    return {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
