"""Build `cpp/naming/data/wordnet-nouns.parquet` from the `dict` folder of WordNet 3.0: `make wordnet DICT=folder`.

One row for each noun synset: its number, lemmas with their sense numbers and tag counts, and hypernyms. ImageNet names
its classes by the same numbers, which are the offsets in `data.noun`; timm ships the list of these. Definitions are
left out, for size.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

FILE = Path(__file__).parent / "data" / "wordnet-nouns.parquet"
SCHEMA = pa.schema(
    [
        ("synset", pa.int32()),
        ("lemmas", pa.list_(pa.string())),
        ("senses", pa.list_(pa.uint8())),  # number of the synset among the senses of each lemma, the most frequent 1
        ("counts", pa.list_(pa.uint16())),  # times that each lemma has this sense in the texts tagged by Princeton
        ("hypernyms", pa.list_(pa.int32())),
        ("instance", pa.bool_()),  # a single person, place or thing; its hypernyms are those of an instance
        ("imagenet", pa.bool_()),  # whether ImageNet has images of the synset
    ]
)
_COUNT = re.compile(r"(\S+)%1:\S+ (\d+) (\d+)")  # lemma, number of the sense, count; part of speech 1 is noun


def main() -> None:
    """Write the file and, beside it, the licence that opens `data.noun`."""
    if len(sys.argv) != 2 or not (folder := Path(sys.argv[1])).joinpath("data.noun").is_file():
        sys.exit("usage: python -m cpp.naming.wordnet_build FOLDER, the `dict` folder of WordNet 3.0 with data.noun")
    rows = list(_synsets(folder))
    FILE.parent.mkdir(exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, SCHEMA), FILE, compression="zstd", compression_level=19)
    lines = (folder / "data.noun").read_text("utf-8").splitlines()
    licence = "\n".join(line[4:].rstrip() for line in lines if line.startswith("  "))
    FILE.with_name("LICENSE-WordNet").write_text(f"{licence.strip()}\n", "utf-8")
    print(f"{len(rows):,} synsets, {FILE.stat().st_size:,} bytes")


def _synsets(folder: Path) -> Iterator[dict[str, Any]]:
    """The rows of the file, in the order of `data.noun`. Formats: WordNet's manual pages wndb(5) and cntlist(5)."""
    from timm.data.imagenet_info import ImageNetInfo

    imagenet = {int(name.removeprefix("n")) for name in ImageNetInfo("imagenet-22k").label_names()}
    sense: dict[tuple[str, int], int] = {}
    for line in _lines(folder / "index.noun"):
        lemma, _, n_synsets, *fields = line.split()
        offsets = fields[-int(n_synsets) :]
        sense |= {(lemma, int(offset)): number for number, offset in enumerate(offsets, 1)}
    counts = {
        (match[1], int(match[2])): int(match[3])
        for line in _lines(folder / "cntlist.rev")
        if (match := _COUNT.fullmatch(line.strip()))
    }
    for line in _lines(folder / "data.noun"):
        offset, _, _, n_lemmas, *fields = line.partition(" | ")[0].split()
        lemmas = fields[: 2 * int(n_lemmas, 16) : 2]
        pointers = fields[2 * int(n_lemmas, 16) + 1 :]
        kinds = zip(pointers[::4], pointers[1::4], strict=True)
        hypernyms = [(kind, int(target)) for kind, target in kinds if kind in ("@", "@i")]
        senses = [sense[lemma.lower(), int(offset)] for lemma in lemmas]
        yield {
            "synset": int(offset),
            "lemmas": [lemma.replace("_", " ") for lemma in lemmas],
            "senses": senses,
            "counts": [counts.get((lemma.lower(), n), 0) for lemma, n in zip(lemmas, senses, strict=True)],
            "hypernyms": [target for _, target in hypernyms],
            "instance": any(kind == "@i" for kind, _ in hypernyms),
            "imagenet": int(offset) in imagenet,
        }


def _lines(path: Path) -> list[str]:
    """The lines of a file without those of the licence, which begin with a blank."""
    return [line for line in path.read_text("utf-8").splitlines() if not line.startswith(" ")]


if __name__ == "__main__":
    main()
