"""Writes the golden files again: `python -m tests.golden`. Look at the difference before you commit it."""

import json

from cpp.fit import train
from tests import test_cli, test_fit
from tests.conftest import subspaces

if __name__ == "__main__":
    X, _ = subspaces(256, 4, 2, 24, seed=0)
    record = train(X, test_fit.SMALL, seed=0)[1]
    test_fit.GOLDEN.write_text(json.dumps([round(row.loss, 6) for row in record]) + "\n")
    test_cli.GOLDEN.write_text(json.dumps(test_cli.surface(), indent=1) + "\n")
