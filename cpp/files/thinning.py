"""At most `keep` rows of each group of rows, evenly spaced in the order of the rows. Knows no images.

Frames of one video or burst are in order in most collections, so that evenly spaced rows are far apart in time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from cpp.files import tables

Names = Sequence[str | None]  # of the groups of the rows of a file; None for a row of no group


def spare_rows(
    read: Callable[[], Iterable[Names]], keep: int, earlier: Iterable[Names] = ()
) -> Iterator[NDArray[np.int64]]:
    """The numbers of the rows of each file beyond the `keep` of their group, ascending; `read` is called twice.

    Of a group of `size` rows, row `j` stays if `(j + 1) * keep // size` is more than `j * keep // size`: exactly `keep`
    rows stay, or fewer by the number of its rows in `earlier` files. Memory grows with the number of groups.
    """
    sizes, seen, taken = Counter[str](), Counter[str](), Counter[str]()
    for names in earlier:
        taken.update(name for name in names if name is not None)
    for names in read():
        sizes.update(name for name in names if name is not None)
    for names in read():
        spare = []
        for row, name in enumerate(names):
            if name is None:
                continue
            size, stay = sizes[name], max(keep - taken[name], 0)
            if size <= stay:
                continue
            j = seen[name]
            seen[name] += 1
            if (j + 1) * stay // size == j * stay // size:
                spare.append(row)
        yield np.array(spare, np.int64)


def stays(thinned: Sequence[str], paths: Sequence[str], shard_of: Callable[[str], str]) -> NDArray[np.bool_] | None:
    """Whether each row of these files, in order, is among the `keep` of its group.

    `shard_of` tells the shard of a path. `thinned` has the path of the table of spare rows by shard; it is empty
    in a run without groups, for which this is None.
    """
    if not thinned:
        return None
    (path,) = thinned
    table = tables.read(path)
    spare = dict(zip(table["shard"].to_pylist(), table["rows"].to_pylist(), strict=True))
    parts = []
    for file in paths:
        part = np.ones(tables.read_footer(file).num_rows, np.bool_)
        part[np.asarray(spare[shard_of(file)], np.int64)] = False
        parts.append(part)
    return np.concatenate(parts)
