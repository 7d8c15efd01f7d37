"""Reads weight files without running code that they may contain, and identifies them by content. Knows no models."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from safetensors import SafetensorError, safe_open

if TYPE_CHECKING:
    from torch import Tensor

SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")  # the last three are pickles; torch loads them with weights_only
DTYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64", "I32": "int32",
    "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool",
}  # fmt: skip  # of .safetensors, by torch's names


class WeightsError(ValueError):
    """A model or its weights are missing or cannot be loaded."""


class _Tensor(NamedTuple):
    """A tensor as its hash sees it: name, torch's name of the dtype, shape, and bytes in C order."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    data: bytes | memoryview


def sha256(path: str) -> str:
    """SHA-256 of the names, dtypes, shapes and bytes of all tensors: equal for equal weights in any file format.

    WeightsError if the file cannot be read, or contains anything other than tensors.
    """
    status = Path(path).stat()
    return _sha256(path, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=16)
def _sha256(path: str, size: int, mtime: int) -> str:
    tensors = _stored_tensors(path) if path.endswith(".safetensors") else None
    digest = hashlib.sha256()
    for name, dtype, shape, data in tensors or _loaded_tensors(path):
        digest.update(f"{name} torch.{dtype} {shape}\n".encode())
        digest.update(data)
    return digest.hexdigest()


def _stored_tensors(path: str) -> Iterator[_Tensor] | None:
    """The tensors of a .safetensors file by name, without torch; None if torch must read it."""
    with _explain_errors(path), safe_open(path, framework="numpy"):  # checks the header and the size of the file
        pass
    with Path(path).open("rb") as file:
        start = 8 + int.from_bytes(file.read(8), "little")
        header: dict[str, Any] = json.loads(file.read(start - 8))
    header.pop("__metadata__", None)
    entries = {_name(name): entry for name, entry in header.items()}
    if not entries or any(entry["dtype"] not in DTYPES for entry in entries.values()):
        return None
    return _read_stored(path, start, entries)


def _read_stored(path: str, start: int, entries: Mapping[str, Any]) -> Iterator[_Tensor]:
    with Path(path).open("rb") as file:
        for name, entry in sorted(entries.items()):
            first, end = entry["data_offsets"]
            file.seek(start + first)
            yield _Tensor(name, DTYPES[entry["dtype"]], tuple(entry["shape"]), file.read(end - first))


def _loaded_tensors(path: str) -> Iterator[_Tensor]:
    import torch

    for name, loaded in sorted(read_tensors(path).items()):
        tensor = loaded.detach().contiguous()
        data = tensor.reshape(-1).view(torch.uint8).numpy().data
        yield _Tensor(name, str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape), data)


def read_tensors(path: str) -> Mapping[str, Tensor]:
    """The tensors of a state dict by name, without the prefix `module.`. WeightsError as in `sha256`."""
    import torch
    from safetensors.torch import load_file

    with _explain_errors(path):
        safe = path.endswith(".safetensors")
        content: Any = load_file(path) if safe else torch.load(path, map_location="cpu", weights_only=True)
    tensors = content.get("state_dict", content) if isinstance(content, dict) else None
    if not tensors or not all(isinstance(tensor, torch.Tensor) for tensor in tensors.values()):
        raise WeightsError(f"{path} is not a state dict (names and tensors): save the model's state_dict()")
    return {_name(name): tensor for name, tensor in tensors.items()}


def _name(name: str) -> str:
    """The name of a tensor without the prefix that DataParallel adds."""
    return name.removeprefix("module.")


@contextlib.contextmanager
def _explain_errors(path: str) -> Iterator[None]:
    try:
        yield
    except (RuntimeError, pickle.UnpicklingError, SafetensorError, ValueError, OSError, EOFError) as error:
        raise WeightsError(
            f"{path} cannot be read as weights without running code in it: {str(error)[:300]}. "
            "Save the state dict as .safetensors"
        ) from error
