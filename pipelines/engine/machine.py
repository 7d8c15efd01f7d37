"""What this machine has, and what a run asks of it that it has not. Knows no stages and no Ray."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import torch

from pipelines.config.sections import Resources

LIMIT = Path("/sys/fs/cgroup/memory.max")  # of the container that this process is in


def memory_bytes() -> int:
    """Bytes of main memory that processes here can have together."""
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        return min(whole, int(LIMIT.read_text()))
    except (OSError, ValueError):  # there is no container, or it has no limit
        return whole


def free_bytes(folder: str) -> int:
    """Bytes that are free on the disk of a folder, which may not exist yet."""
    path = Path(folder).absolute()
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free


def missing_resources(r: Resources) -> Iterator[str]:
    """Sentences about CPUs and GPUs that workers here would ask for and that are not there."""
    for kind, asked, have, key in (
        ("CPU", r.workers * r.cpus, os.cpu_count() or 1, "workers"),
        ("CPU", r.cpu_workers or 0, os.cpu_count() or 1, "cpu_workers"),
        ("GPU", r.workers * r.gpus, torch.cuda.device_count(), "workers"),
    ):
        if asked > have:
            yield (
                f"resources: the workers together ask for {asked:g} {kind}s and this machine has {have}: "
                f"lower resources.{key} ({getattr(r, key)}) or resources.{kind.lower()}s, or join a cluster "
                "(resources.ray_address)"
            )
