"""The generated parts of the documentation: the annotated tree in architecture.md, and the table in outputs.md."""

from __future__ import annotations

import ast
from pathlib import Path

import pyarrow as pa

from pipelines.stages.schemas import MEANINGS, METADATA, OUTPUTS

ROOT = Path(__file__).parents[2]


def generated() -> dict[Path, str]:
    """The pages with generated parts, as they should be."""
    parts = {"architecture.md": ("tree", tree()), "outputs.md": ("outputs", outputs())}
    return {ROOT / "docs" / page: embed(ROOT / "docs" / page, *part) for page, part in parts.items()}


def tree() -> str:
    """Every room and module with the first sentence of its docstring."""
    lines = []
    for package in ("cpp", "pipelines"):
        lines.append(f"{package}/ — {summary(ROOT / package / '__init__.py')}\n")
        folders = sorted(path.parent for path in (ROOT / package).glob("*/__init__.py"))
        for folder in folders:
            lines.append(f"- **`{folder.relative_to(ROOT)}/`** {summary(folder / '__init__.py')}")
            modules = sorted(path for path in folder.glob("*.py") if path.stem != "__init__")
            lines += [f"    - `{path.name}` {summary(path)}" for path in modules]
        modules = sorted(path for path in (ROOT / package).glob("*.py") if path.stem != "__init__")
        lines += [f"- **`{path.relative_to(ROOT)}`** {summary(path)}" for path in modules]
        lines.append("")
    return "\n".join(lines)


def summary(path: Path) -> str:
    """The first paragraph of a module's docstring, in one line."""
    docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
    return " ".join(docstring.split("\n\n")[0].split()).replace("|", "\\|")


def outputs() -> str:
    """The outputs of a run as Markdown: a table of files, and a table of columns for each described Parquet file."""
    lines = ["| in the run folder | what it holds |", "|---|---|"]
    lines += [f"| `{output.path}` | {output.meaning} |" for output in OUTPUTS]
    for output in OUTPUTS:
        if output.schema is not None:
            lines += ["", f"### {output.path}", "", "| column | type | meaning |", "|---|---|---|"]
            lines += [
                f"| `{f.name}` | {_type(f)} | {(MEANINGS | dict(output.columns))[f.name]} |" for f in output.schema
            ]
    return "\n".join(lines) + "\n"


def _type(field: pa.Field) -> str:
    """The type of a column in words; the length of vectors depends on the run."""
    if field.name == METADATA:
        return "any"
    if pa.types.is_fixed_size_list(field.type):
        return "float16 vector"
    return (
        "list"
        if pa.types.is_list(field.type)
        else str(field.type).replace("double", "float64").replace("halffloat", "float16")
    )


def embed(page: Path, name: str, text: str) -> str:
    """The page with the text between the comments `<!-- NAME -->` and `<!-- end of NAME -->`."""
    start, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
    before, _, rest = page.read_text().partition(start)
    _, _, after = rest.partition(end)
    return f"{before}{start}\n{text}\n{end}{after}"
