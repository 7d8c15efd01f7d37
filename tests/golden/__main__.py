"""Writes the golden files again: `python -m tests.golden`. Look at the difference before you commit it."""

import json

from cpp.rate_reduction.fit import train
from tests.golden import documents
from tests.support import golden
from tests.support.vectors import subspaces

if __name__ == "__main__":
    X, _ = subspaces(256, 4, 2, 24, seed=0)
    record = train(X, golden.TRAINING, seed=0)[1]
    golden.LOSS.write_text(json.dumps([round(row.loss, 6) for row in record]) + "\n")
    golden.COMMAND_LINE.write_text(json.dumps(golden.command_line(), indent=1) + "\n")
    for page, text in documents.generated().items():
        page.write_text(text)
