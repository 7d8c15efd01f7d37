"""Random odd tables and COCO files, with the rows that they must give."""

from __future__ import annotations

import csv
import io
import json
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq

from tests.support.odd_parts import OddInput, Parts


class Tables(Parts):
    """Makes an input of addresses or bytes in tables, or of COCO files."""

    def addresses(self) -> OddInput:
        """Tables of addresses: CSV, TSV, JSON Lines or Parquet."""
        paths, result = (
            list[str](),
            OddInput({"format": "table", "column": "path", "shard_size": self.random.choice([2, 7, 100])}),
        )
        for i in range(self.random.randint(1, 3)):
            kind = self.random.choice(["csv", "tsv", "jsonl", "parquet"])
            rows = [self.address_row(result, kind) for _ in range(self.random.randint(0, 12))]
            if i == 0:
                rows.append(self.address_row(result, kind, good=True))
            suffix = kind.upper() if kind != "parquet" and self.chance(0.2) else kind
            paths.append(self.write(f"tables {i}/t-{i}.{suffix}", self.table(kind, rows, result)))
        if self.chance(0.3):
            end = self.random.choice(["\n", "\r\n"])
            listing = "".join(f"{path}{end}" for path in paths)
            paths = [self.write("list.txt", listing.encode("utf-8-sig" if self.chance(0.5) else "utf-8"))]
        result.section["path"] = paths
        return result

    def address_row(self, result: OddInput, kind: str, good: bool = False) -> dict[str, Any]:
        """A row of a table, counted in `result`."""
        caption = self.text()
        if kind == "tsv":
            caption = caption.replace("\t", " ").replace("\n", " ")
        if not good and self.chance(0.15):
            result.rejected += 1
            return {"path": self.random.choice(["", "none.jpg", "ssh://host/x.jpg", "/dev/null"]), "caption": caption}
        identity, suffix, data = self.picture()
        if not good and self.chance(0.15):
            result.rejected += 1
            data = self.bad()
        else:
            result.captions[identity] = caption
        path = self.write(f"pictures/{self.name(suffix)}", data)
        full = str(self.folder / path)
        return {"path": self.random.choice([f"../{path}", full, f"file://{full}"]), "caption": caption}

    def table(self, kind: str, rows: list[dict[str, Any]], result: OddInput) -> bytes:
        """A table file, with lines that are no rows."""
        bom, end = b"\xef\xbb\xbf" if self.chance(0.3) else b"", self.random.choice(["\n", "\r\n"])
        if kind == "parquet":
            type_ = self.random.choice([pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())])
            table = pa.table({name: pa.array([row[name] for row in rows], pa.string()) for name in ("path", "caption")})
            table = table.set_column(0, "path", table["path"].cast(type_))
            file = io.BytesIO()
            pq.write_table(table, file, row_group_size=self.random.choice([1, 3, 100]))
            return file.getvalue()
        lines = list[bytes]()
        for row in [{"path": "path", "caption": "caption"}, *rows] if kind != "jsonl" else rows:
            values = [row["path"], row["caption"]]
            if kind == "csv":
                line = io.StringIO()
                csv.writer(line, lineterminator=end, quoting=self.random.choice([0, 1])).writerow(values)
                lines.append(line.getvalue().encode())
            else:
                lines.append(((json.dumps(row) if kind == "jsonl" else "\t".join(values)) + end).encode())
        start = 0 if kind == "jsonl" else 1
        for _ in range(self.random.choice([0, 0, 1, 3])):
            bad = {
                "csv": [b"a", b"a,b,c", b"\xff.jpg,x"],
                "tsv": [b"a", b"a\tb\tc", b"\xff.jpg\tx"],
                "jsonl": [b"{", b"7", b'{"path": "\\ud800"}', b"\xff"],
            }[kind]
            line, rejected = self.random.choice([*((line, 1) for line in bad), (b"", 0)])
            lines.insert(self.random.randint(start, len(lines)), line + end.encode())
            result.rejected += rejected
        if kind == "csv" and self.chance(0.1):
            lines.append(b'"never closed,x' + end.encode())
            result.error = "A CSV field that begins with a quotation mark ends with one"
        data = bom + b"".join(lines)
        return data[: -len(end)] if self.chance(0.3) and kind == "tsv" else data

    def encoded(self) -> OddInput:
        """Parquet files with the bytes of images, or Hugging Face's struct of bytes and path."""
        result = OddInput({"format": "parquet", "column": "image", "shard_size": self.random.choice([2, 100])})
        paths = []
        for i in range(self.random.randint(1, 3)):
            struct, cells, captions = self.chance(0.6), list[Any](), list[str]()
            for _ in range(self.random.randint(1, 8)):
                identity, suffix, data = self.picture()
                caption, good = self.text(), self.chance(0.8)
                cell: Any = data if good else self.random.choice([None, self.bad()])
                if struct and cell is not None and self.chance(0.5):
                    cell = {"bytes": None, "path": self.write(f"p{i}/{self.name(suffix)}", cell).partition("/")[2]}
                elif struct and cell is not None:
                    cell = {"bytes": cell, "path": self.random.choice([None, "none.jpg"])}
                cells.append(cell)
                captions.append(caption)
                if good:
                    result.captions[identity] = caption
                else:
                    result.rejected += 1
            type_ = pa.struct([("bytes", pa.binary()), ("path", pa.string())]) if struct else pa.large_binary()
            file = io.BytesIO()
            pq.write_table(pa.table({"image": pa.array(cells, type_), "caption": captions}), file, row_group_size=3)
            paths.append(self.write(f"p{i}/train-{i}.parquet", file.getvalue()))
        result.section["path"] = paths
        return result

    def coco(self) -> OddInput:
        """A folder of images in sub-folders with annotation files whose ids restart."""
        result = OddInput({"format": "coco", "path": ["im"], "shard_size": self.random.choice([1, 3, 100])})
        files = []
        for split in self.random.sample(["train2017", "val2017", "a b"], self.random.randint(1, 3)):
            images, annotations = list[dict[str, Any]](), list[dict[str, Any]]()
            before = self.random.choice(["", "./", "/data/im/", "im/"])
            for i in range(self.random.randint(1, 6)):
                identity, suffix, data = self.picture()
                file = f"{split}/{self.name(suffix) if self.chance(0.5) else f'{i}.{suffix}'}"
                exists, good = self.chance(0.85), self.chance(0.9)
                if exists:
                    self.write(f"im/{file}", data if good else self.bad())
                result.rejected += not (exists and good)
                field_ = "coco_url" if self.chance(0.2) else "file_name"
                images.append(
                    {"id": i, field_: f"http://host/x/{quote(file)}" if field_ == "coco_url" else before + file}
                )
                caption = self.text().strip() if self.chance(0.8) else None
                annotations += [{"image_id": i, "caption": caption}] if caption is not None else []
                if exists and good:
                    result.captions[identity] = caption
            annotations += self.random.sample(
                [{"image_id": 99, "caption": "x"}, {"image_id": 0, "category_id": 0}, {}], 2
            )
            self.random.shuffle(annotations)
            content = {"images": images, "annotations": annotations, "info": {}}
            files.append(
                self.write(f"{split}.json", json.dumps(content).encode("utf-8-sig" if self.chance(0.2) else "utf-8"))
            )
        identity, suffix, data = self.picture()
        self.write(f"im/{self.name(suffix)}", data)
        result.captions[identity] = None
        result.section["annotations"] = files
        return result
