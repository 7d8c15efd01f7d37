"""The examples in configs/cluster: what Ray and KubeRay ask of them, as far as that can be said without a cluster."""

import itertools
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from pipelines.config.load import load
from pipelines.config.sections import Resources

ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "configs" / "cluster"
RAY = re.search(r"^ray==(\S+)", (ROOT / "requirements.lock").read_text(), re.M)
VERSION = RAY[1] if RAY else ""


def manifest(name: str) -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load((CLUSTER / name).read_text())
    return read


def settings(command: str) -> tuple[Resources, str]:
    """The resources and the root of the run that a file starts."""
    overrides = re.findall(r"--set (\S+=[^\s']+)", command)
    config = load(ROOT / "configs" / "laion.yaml", overrides)
    return config.resources, config.root


def test_the_ray_up_example_is_what_ray_accepts() -> None:
    config = manifest("ray-up.yaml")
    validate_config(prepare_config(config))
    text = (CLUSTER / "ray-up.yaml").read_text()
    assert f"ray[default]=={VERSION}" in text
    resources, root = settings(text.replace("\n#", " "))
    assert root.startswith("s3://")
    types = config["available_node_types"]
    _fits(resources, types["gpu"]["resources"], types["cpu"]["resources"], types["gpu"]["max_workers"])
    assert all(types[kind]["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"} for kind in ("gpu", "cpu"))


def test_the_kuberay_manifest_has_what_a_rayjob_needs() -> None:
    job = manifest("kuberay.yaml")
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    cluster = job["spec"]["rayClusterSpec"]
    assert cluster["rayVersion"] == VERSION
    assert f"ray[default]=={VERSION}" in (CLUSTER / "kuberay.yaml").read_text()
    groups = {group["groupName"]: group for group in cluster["workerGroupSpecs"]}
    assert groups.keys() == {"gpu", "cpu"}
    asked = {}
    for name, group in {"head": cluster["headGroupSpec"], **groups}.items():
        (container,) = group["template"]["spec"]["containers"]
        assert isinstance(group["rayStartParams"], dict)
        asked[name] = container["resources"]["limits"]
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        assert mounted == {volume["name"] for volume in group["template"]["spec"]["volumes"]}
        if name != "head":
            assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
            assert group["template"]["spec"]["tolerations"]
    resources, root = settings(job["spec"]["entrypoint"])
    assert root.startswith("s3://")
    gpu = {"CPU": int(asked["gpu"]["cpu"]), "GPU": int(asked["gpu"]["nvidia.com/gpu"])}
    _fits(resources, gpu, {"CPU": int(asked["cpu"]["cpu"])}, groups["gpu"]["maxReplicas"])


def test_the_slurm_script_starts_ray_and_a_run_that_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With commands of Slurm that print what they are called with."""
    for name, line in {"srun": 'printf "%s\\n" "$@"', "scontrol": "seq -f node%g 20000"}.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{line}\n")
        (tmp_path / name).chmod(0o755)
    slurm = {
        "JOB_NODELIST": "n[1-4]",
        "JOB_ID": "71234",
        "JOB_NUM_NODES": "4",
        "CPUS_PER_TASK": "16",
        "GPUS_ON_NODE": "1",
    }
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", **{f"SLURM_{key}": slurm[key] for key in slurm}}
    monkeypatch.chdir(tmp_path)
    program = ["bash", CLUSTER / "slurm.sh", str(ROOT / "configs/laion.yaml")]
    output = subprocess.run(program, env=environment, check=True, capture_output=True, text=True).stdout.splitlines()
    ray, run = output[: output.index("--")], output[output.index("--") + 1 :]
    assert ray[1:7] == ["ray", "symmetric-run", "--address", "node1:21234", "--min-nodes", "4"]
    assert run[:4] == ["python", "-m", "pipelines", "run"]
    overrides = [value for option, value in itertools.pairwise(run) if option == "--set"]
    resources = load(run[4], [*overrides, "root=/shared/run"]).resources
    assert (resources.ray_address, resources.workers, resources.cpus, resources.gpus) == ("node1:21234", 4, 14, 1)


def _fits(resources: Resources, gpu: dict[str, int], cpu: dict[str, int], most: int) -> None:
    """The run's workers fill the GPU nodes, and those without a GPU the CPU nodes."""
    assert resources.ray_address == "auto"
    assert (resources.workers, resources.cpus, resources.gpus) == (most, gpu["CPU"], gpu["GPU"])
    assert resources.cpu_workers == most * cpu["CPU"]
