"""CPUs, GPUs, memory, free disk space and package versions of this machine. Knows no stage and no Ray."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pipelines.config.sections import Resources

CONTAINER_LIMIT = Path("/sys/fs/cgroup/memory.max")
# Packages that results can depend on.
PACKAGES = (
    "cpp-at-scale",
    "torch",
    "faiss-gpu",
    "faiss-cpu",
    "open_clip_torch",
    "webdataset",
    "pyarrow",
    "ray",
    "scikit-learn",
)


def memory_bytes() -> int:
    """Main memory that this container or machine can use."""
    installed = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        return min(installed, int(CONTAINER_LIMIT.read_text()))
    except (OSError, ValueError):  # no container, or one without a limit
        return installed


def free_bytes(folder: str) -> int:
    """Free disk space under a folder, which need not exist yet."""
    path = Path(folder).absolute()
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free


def n_gpus() -> int:
    """The number of GPUs of this machine that PyTorch can use."""
    import torch  # not above: the command line needs this module and not torch

    return torch.cuda.device_count()


def missing_resources(r: Resources) -> Iterator[str]:
    """Yield a sentence for each kind of resource of which the workers need more than this machine has."""
    for kind, needed, available, keys in (
        ("CPU", r.workers * r.cpus, os.cpu_count() or 1, ("workers", "cpus")),
        ("CPU", r.cpu_workers or 0, os.cpu_count() or 1, ("cpu_workers",)),
        ("GPU", r.workers * r.gpus, n_gpus() if r.gpus else 0, ("workers", "gpus")),
    ):
        if needed > available:
            lower = " or ".join(f"resources.{key} ({getattr(r, key)})" for key in keys)
            yield (
                f"resources: the workers need {needed:g} {kind}s and this machine has {available}: lower {lower}, "
                "or join a cluster (resources.ray_address)"
            )


def versions() -> dict[str, str]:
    """Versions of Python and of those of PACKAGES that are installed."""
    installed = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            installed[package] = version(package)
        except PackageNotFoundError:
            continue
    return installed
