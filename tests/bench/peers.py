"""Peers for `tests.bench.head`: their authors' own modules, out of clones of their repositories; no copy is kept here.

A folder holds the clones under their own names: LeslieTrue/CPP, HHU-MMBS/TEMI-official-BMVC2023, mlbio-epfl/turtle,
mengxianghan123/PRO-DSC on GitHub. Settings are the ones their authors publish, but for the budgets below; none was
chosen by a score.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from scipy.linalg import eigh

from cpp.clustering.partition import partition
from cpp.nearest import nearest_rows
from cpp.rate_reduction.fit import batches
from cpp.rate_reduction.head import Codes

Clusters = NDArray[np.integer]
Clustering = Callable[[torch.Tensor, int, int], Clusters]
TEMI_HEADS = 4  # of 16: what two shared cores can pay
TURTLE_STEPS = 2000  # of 6000: likewise
CLIP_LENGTH = 10  # of both inputs: about what CLIP gives before normalisation, and their learning rates are for that


def peers(folder: Path) -> dict[str, Clustering]:
    """The peers whose clone is in `folder`, by the names that the table shows."""
    known: dict[str, tuple[str, Callable[[Path], Clustering]]] = {
        "CPP": ("published CPP, k-means on z", cpp),
        "TEMI-official-BMVC2023": (f"published TEMI, 100 epochs, {TEMI_HEADS} of 16 heads", temi),
        "turtle": (f"published TURTLE, {TURTLE_STEPS} of 6000 steps", turtle),
        "PRO-DSC": ("published PRO-DSC", pro_dsc),
    }
    found = {}
    for clone, (name, adapter) in known.items():
        if (folder / clone).is_dir():
            found[name] = adapter(folder / clone)
        else:
            print(f"no {folder / clone}: the table goes without {name}", file=sys.stderr)
    return found


@contextmanager
def modules_of(*folders: Path) -> Iterator[None]:
    """Makes the modules in `folders` importable by their own names, and forgets the names afterwards: `utils` is
    another module with each of the peers."""
    before, path = set(sys.modules), list(sys.path)
    names = {entry.stem for folder in folders for entry in folder.iterdir()}
    sys.path[:0] = map(str, folders)
    try:
        yield
    finally:
        sys.path[:] = path
        for name in set(sys.modules) - before:
            if name.partition(".")[0] in names:
                del sys.modules[name]


def cpp(folder: Path) -> Clustering:
    """The authors' own network, Sinkhorn layer and loss, trained as their script does with the paper's settings for
    CIFAR-10, then spherical k-means on z of the whole set."""
    with modules_of(folder):
        from loss.loss_fn import MLCLoss, TotalCodingRate
        from model.CPP_model import CPPNet
        from model.sink_distance import SinkhornDistance

    def cluster(X: torch.Tensor, K: int, seed: int) -> Clusters:
        torch.manual_seed(seed)
        network, sinkhorn = CPPNet(X.shape[1], 4096, 128), SinkhornDistance(0.175, max_iter=5)
        rest = [*network.pre_feature.parameters(), *network.subspace.parameters()]
        optimizers = [
            torch.optim.SGD(parameters, lr=1e-4, momentum=0.9, weight_decay=decay)
            for parameters, decay in ((rest, 1e-4), (network.cluster.parameters(), 5e-3))
        ]
        warmup, objective, m = TotalCodingRate(eps=0.1), MLCLoss(eps=0.1, gamma=1.0), 1024
        stream = batches(len(X), m, torch.Generator().manual_seed(seed))
        for step in range(50 + 15 * (len(X) // m)):
            if step == 50:
                network.cluster.load_state_dict(network.subspace.state_dict())
            z, logits = network(X[next(stream)])
            if step < 50:
                loss = warmup(z)
            else:
                Pi = sinkhorn((logits @ logits.T).abs().unsqueeze(0))[0][0] * m
                loss = objective(z, Pi)[0] + 0.05 * 0.5 * Pi.norm() ** 2
            for optimizer in optimizers:
                optimizer.zero_grad()
            loss.backward()
            for optimizer in optimizers:
                optimizer.step()
        with torch.no_grad():
            Z = network.eval()(X)[0]
        return partition(Codes(Z, Z), K, "kmeans", 0.1, 8192, seed).group

    return cluster


def temi(folder: Path, heads: int = TEMI_HEADS, epochs: int = 100, m: int = 1024) -> Clustering:
    """The authors' heads, loss and schedules with the settings of the command in their README and the defaults of their
    parser. Their script wants CUDA, TensorBoard and the clip package, so the loop over the batches is written here.
    The teacher answers, by the head of least loss in the last epoch: no label picks an epoch."""
    with modules_of(folder, folder / "model_builders"):  # the package of the second imports clip, the module does not
        import utils
        from losses import TEMI
        from multi_head import MultiHeadClassifier

    def cluster(X: torch.Tensor, K: int, seed: int) -> Clusters:
        utils.fix_random_seeds(seed)
        shape = {"embed_dim": X.shape[1], "out_dim": K, "num_heads": heads}
        sizes = {"nlayers": 2, "hidden_dim": 512, "bottleneck_dim": 256}
        student, teacher = (MultiHeadClassifier("precomputed", **shape, **sizes) for _ in range(2))
        teacher.load_state_dict(student.state_dict())
        teacher.requires_grad_(False)
        temperatures = {"warmup_teacher_temp": 0.1, "teacher_temp": 0.1, "warmup_teacher_temp_epochs": 30}
        objective = TEMI(beta=0.6, num_heads=heads, out_dim=K, batchsize=m, nepochs=epochs, **temperatures)
        optimizer = torch.optim.AdamW(utils.get_params_groups(student.head))
        steps, lr = len(X) // m, 1e-4 * m / 256
        rates = utils.cosine_scheduler(lr, lr, epochs, steps, warmup_epochs=20)
        near = torch.from_numpy(nearest_rows(X.numpy(), min(50, len(X) // K)))  # their file of neighbours has n / K
        stream = batches(len(X), m, torch.Generator().manual_seed(seed))
        for epoch in range(epochs):
            total = torch.zeros(heads)
            for step in range(steps):
                for group, decay in zip(optimizer.param_groups, (1e-4, 0), strict=True):
                    group |= {"lr": rates[epoch * steps + step], "weight_decay": decay}
                rows = next(stream)
                pair = CLIP_LENGTH * torch.cat([X[rows], X[near[rows, torch.randint(near.shape[1], (m,))]]])
                losses = objective(student(pair), teacher(pair), epoch=epoch)
                optimizer.zero_grad()
                losses.mean().backward()
                utils.cancel_gradients_last_layer(epoch, student, 1)
                optimizer.step()
                with torch.no_grad():
                    for slow, fast in zip(teacher.head.parameters(), student.head.parameters(), strict=True):
                        slow.lerp_(fast, 1 - 0.996)
                    total += losses.detach()
        teacher.head.set_losses(total)
        with torch.no_grad():
            return teacher.eval()(CLIP_LENGTH * X).argmax(1).numpy()

    return cluster


def turtle(folder: Path, steps: int = TURTLE_STEPS) -> Clustering:
    """The authors' own script, as it is, with its defaults and one space of representations. It reports an accuracy as
    it goes, so it is given one row with an invented label for that; the classes stay here."""
    with modules_of(folder):
        import run_turtle

    def cluster(X: torch.Tensor, K: int, seed: int) -> Clusters:
        X = CLIP_LENGTH * X
        run_turtle.datasets_to_c["bench"] = K
        with tempfile.TemporaryDirectory() as name, redirect_stdout(sys.stderr):
            root = Path(name)
            vectors, labels = root / "representations/clipvitB32", root / "labels"
            vectors.mkdir(parents=True)
            labels.mkdir()
            np.save(vectors / "bench_train.npy", X.numpy())
            np.save(vectors / "bench_val.npy", X[:1].numpy())
            np.save(labels / "bench_val.npy", np.zeros(1, int))
            settings = {"dataset": "bench", "phis": "clipvitB32", "device": "cpu", "root_dir": name}
            settings |= {"T": str(steps), "seed": str(seed)}
            run_turtle.run([part for key, value in settings.items() for part in (f"--{key}", value)])
            (checkpoint,) = root.glob("task_checkpoints/**/*.pt")
            linear = torch.load(checkpoint)["phi1"]
        return (X @ linear["weight"].T + linear["bias"]).argmax(1).numpy()

    return cluster


def pro_dsc(folder: Path) -> Clustering:
    """The authors' network, Sinkhorn layer, coding rate and spectral clustering, with their settings for CIFAR-10: of
    their schedules the one that two shared cores can pay, as many steps as its epochs have there. Their script wants
    its own files, TensorBoard and mixed precision on CUDA, so the loop over the batches is written here, in fp32. Their
    clustering reports an accuracy, so it is given one invented label; the first of its ten answers counts."""
    with modules_of(folder):
        from loss.loss_fn import TotalCodingRate
        from metrics.clustering import spectral_clustering_metrics
        from model.model import PRO_DSC
        from model.sink_distance import SinkhornDistance
        from utils import update_pi_from_z
    s = yaml.safe_load((folder / "configs/cifar10.yaml").read_text())

    def block_diagonal(A: torch.Tensor, K: int) -> torch.Tensor:
        """tr(L W): W projects on the K lowest eigenvectors of the Laplacian L of A, and is a constant."""
        L = A.sum(1).diag() - A
        low = torch.from_numpy(eigh(L.detach().numpy(), subset_by_index=(0, K - 1))[1])
        return (L @ low * low).sum()

    def cluster(X: torch.Tensor, K: int, seed: int) -> Clusters:
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002  # what their clustering draws from
        X = CLIP_LENGTH * X
        network, m = PRO_DSC(X.shape[1], s["hidden_dim"], s["z_dim"]), min(s["bs"], len(X))
        sinkhorn, rate = SinkhornDistance(s["pieta"], max_iter=1), TotalCodingRate(eps=s["eps"])
        rest = [*network.pre_feature.parameters(), *network.subspace.parameters()]
        optimizers = [
            torch.optim.SGD(parameters, lr=lr, momentum=0.9, weight_decay=decay)
            for parameters, lr, decay in ((rest, s["lr"], 1e-4), (network.cluster.parameters(), s["lr_c"], 5e-3))
        ]
        stream = batches(len(X), m, torch.Generator().manual_seed(seed))
        for step in range(s["epo"] * (50_000 // s["bs"])):
            Z, C = network(X[next(stream)])
            loss = rate(Z)
            if step > s["warmup"]:
                products = C @ C.T
                Pi = m * sinkhorn(products.abs().unsqueeze(0))[0][0]
                A = (Pi + Pi.T) / 2 * (1 - torch.eye(m))
                rest_of_Z = Z - (A * products.sign()).T @ Z  # what the others do not express
                loss = loss + s["gamma"] / 2 * rest_of_Z.square().sum() / m + s["beta"] * block_diagonal(A, K) / m
            for optimizer in optimizers:
                optimizer.zero_grad()
            loss.backward()
            for optimizer in optimizers:
                optimizer.step()
            if step == s["warmup"]:
                update_pi_from_z(network)
        with torch.no_grad():
            C = network.eval()(X)[1]
        answers = spectral_clustering_metrics((C @ C.T).abs().numpy(), K, np.zeros(len(X), int), verbose=False)[2]
        return np.asarray(answers[0])

    return cluster
