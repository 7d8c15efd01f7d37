"""The examples in configs/cluster: what Ray, KubeRay and Kueue require of them, as far as it can be checked here."""

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


# The release of KubeRay that has a field of a RayJob, by its types and feature gates. A field that is not here may be
# misspelled, which the operator would ignore.
SINCE = {
    "entrypoint": (1, 0),
    "rayClusterSpec": (1, 0),
    "suspend": (1, 0),
    "shutdownAfterJobFinishes": (1, 0),
    "activeDeadlineSeconds": (1, 1),
    "backoffLimit": (1, 2),
    "submissionMode": (1, 5),
    "deletionStrategy": (1, 6),
    "preRunningDeadlineSeconds": (1, 6),
}


def test_the_kuberay_manifest_names_the_release_that_has_its_fields() -> None:
    spec = manifest("kuberay.yaml")["spec"]
    text = (CLUSTER / "kuberay.yaml").read_text()
    needed = max(SINCE[field] for field in spec)
    assert f"needs KubeRay {needed[0]}.{needed[1]} or later" in text


def test_the_kuberay_manifest_keeps_the_rules_of_the_operator() -> None:
    """Those of its sidecar mode, its deadlines and its deletion rules."""
    spec = manifest("kuberay.yaml")["spec"]
    assert spec["submissionMode"] == "SidecarMode"
    assert not {"submitterPodTemplate", "submitterConfig", "clusterSelector"} & spec.keys()
    head = spec["rayClusterSpec"]["headGroupSpec"]["template"]
    assert head["spec"].get("restartPolicy", "Never") == "Never"
    assert 0 < spec["preRunningDeadlineSeconds"] < spec["activeDeadlineSeconds"]
    assert not {"shutdownAfterJobFinishes", "ttlSecondsAfterFinished"} & spec.keys()  # they exclude deletion rules
    rules = spec["deletionStrategy"]["deletionRules"]
    ends = [rule["condition"].keys() - {"ttlSeconds"} for rule in rules]
    assert ends == [{"jobStatus"}, {"jobDeploymentStatus"}]  # a job past its deadline has no jobStatus FAILED
    assert {rule["policy"] for rule in rules} == {"DeleteCluster"}
    selector = f"app={head['metadata']['labels']['app']},ray.io/node-type=head"
    assert f"--container ray-job-submitter --selector {selector}" in (CLUSTER / "kuberay.yaml").read_text()


def test_the_job_for_kueue_is_one_that_kueue_takes() -> None:
    overlay = manifest("kustomization.yaml")
    assert overlay["resources"] == ["kuberay.yaml"]
    job = manifest("kuberay.yaml")
    (patch,) = overlay["patches"]
    assert patch["target"] == {"group": "ray.io", "version": "v1", "kind": job["kind"], "name": job["metadata"]["name"]}
    for operation in yaml.safe_load(patch["patch"]):
        _apply(job, **operation)
    assert "kueue.x-k8s.io/queue-name" in job["metadata"]["labels"]
    spec = job["spec"]
    assert spec["suspend"]
    assert spec["shutdownAfterJobFinishes"]
    assert "deletionStrategy" not in spec
    cluster = spec["rayClusterSpec"]
    assert cluster["enableInTreeAutoscaling"] is False
    assert len(cluster["workerGroupSpecs"]) <= 7
    assert all(group["replicas"] == group["maxReplicas"] for group in cluster["workerGroupSpecs"])


def _apply(document: Any, op: str, path: str, value: Any = None) -> None:
    """An operation of a JSON patch (RFC 6902). KeyError if what it removes or replaces does not exist."""
    *parents, last = path.strip("/").split("/")
    for part in parents:
        document = document[int(part) if isinstance(document, list) else part]
    if op in ("remove", "replace"):
        del document[last]
    if op in ("add", "replace"):
        document[last] = value


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
