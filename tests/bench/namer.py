"""How well the check of the namer's answers tells right from wrong names, on the real vectors in CPP_TEST_DATA.

    CPP_TEST_DATA=folder python -m tests.bench.namer

The clusters are the classes of Caltech-101. In each of 20 draws half of the words of ImageNet and LVIS are the
vocabulary and the others are proposed: those that a person accepts for the class (right), those accepted for one of
the three most similar classes (similar), and five at random (random). A proposal that its class accepts is in neither
of the latter.
"""

from __future__ import annotations

import os
from collections import defaultdict
from pathlib import Path

import numpy as np
import pandas as pd

from cpp.evaluation.accepted_names import read_accepted
from cpp.naming import namer, wordnet
from cpp.naming.vocabulary import Vocabulary
from cpp.naming.votes import IMAGE_MEAN, ClusterSums
from cpp.sources.vectors import read_words

DRAWS, RANDOM = 20, 5


def main() -> None:
    data = Path(os.environ["CPP_TEST_DATA"])
    (imagenet, X_imagenet), (lvis, X_lvis) = (
        read_words(str(data / "clip-b32-text" / name)) for name in ("imagenet1k", "lvis1203")
    )
    everything = Vocabulary.of([*imagenet, *lvis], np.concatenate([X_imagenet, X_lvis]))
    number = {wordnet.normal(word): i for i, word in enumerate(everything.words)}
    folder = data / "caltech101-clip-b32"
    X = np.concatenate([np.load(path).astype(np.float64) for path in sorted((folder / "img_emb").glob("*.npy"))])
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    tables = [pd.read_parquet(path, columns=["class"]) for path in sorted((folder / "metadata").glob("*.parquet"))]
    classes, label = np.unique(pd.concat(tables)["class"].astype(str), return_inverse=True)
    sums = ClusterSums(np.bincount(label), np.stack([X[label == k].sum(0) for k in range(len(classes))]))
    lists = read_accepted(str(data.parent / "caltech101-accepted-names.json"))
    right = [{number[name] for name in lists[wordnet.normal(kind)] if name in number} for kind in classes]
    members = namer.mean_members(sums, IMAGE_MEAN)
    nearest, generator = namer.nearest(sums, namer.NEAREST), np.random.default_rng(0)
    accepted: dict[tuple[str, bool], list[bool]] = defaultdict(list)
    for _ in range(DRAWS):
        is_held = generator.random(len(everything)) < 0.5
        kept = np.flatnonzero(~is_held)
        vocabulary = Vocabulary(tuple(everything.words[w] for w in kept), everything.vectors[kept])
        text = vocabulary.centre(everything.vectors).numpy()
        for k, (order, fit) in enumerate(namer.best_words(sums, vocabulary, 1)):
            proposals = {
                "right": right[k],
                "similar": set().union(*(right[other] for other in nearest[k])) - right[k],
                "random": set(generator.choice(np.flatnonzero(is_held), RANDOM).tolist()) - right[k],
            }
            is_right = int(kept[order[0]]) in right[k]
            for kind, numbers in proposals.items():
                values = [bool(members[k] @ text[w] > fit) for w in numbers if is_held[w]]
                accepted[kind, is_right] += values
    for (kind, is_right), values in sorted(accepted.items()):
        guess = "right" if is_right else "wrong"
        print(f"best word {guess}, proposal {kind}: {100 * np.mean(values):.1f}% of {len(values):,} accepted")


if __name__ == "__main__":
    main()
