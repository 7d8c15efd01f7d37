"""Writes the golden files again: `python -m tests.golden`. Look at the difference before you commit it."""

import json

from cpp.rate_reduction.fit import train
from tests.conftest import subspaces
from tests.cpp.rate_reduction import test_fit
from tests.pipelines.commands import test_cli

if __name__ == "__main__":
    X, _ = subspaces(256, 4, 2, 24, seed=0)
    record = train(X, test_fit.SMALL, seed=0)[1]
    test_fit.GOLDEN.write_text(json.dumps([round(row.loss, 6) for row in record]) + "\n")
    test_cli.GOLDEN.write_text(json.dumps(test_cli.surface(), indent=1) + "\n")
