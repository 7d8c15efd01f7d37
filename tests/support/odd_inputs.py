"""Random inputs of every kind that are as odd as those of real collections, with the rows that they must give.

Each picture has one colour, which is its number, and at most one caption. Knows nothing of the code that reads them.
"""

from __future__ import annotations

import csv
import io
import json
import random
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

SUFFIXES = {"PNG": "png", "JPEG": "jpg", "GIF": "gif", "BMP": "bmp", "TIFF": "tif", "WEBP": "webp", "PPM": "ppm"}
TEXTS = ["a cat", "", '"', 'a 5" nail', '"begins', "a, b", "tab\there", "two\nlines", "naïve ☃ 猫", " spaces ", "null"]
TEXTS += [
    "1",
    "\u2028",
    "{}",
    "[1]",
    "true",
    "x" * 5000,
    "back\\slash",
    "'",
    "#",
    "%20",
    "a;b",
    "x\ufeff",
    "<b>&amp;</b>",
]
WORDS = ["cat", "Über", "a b", "photo.2020", "[1]", "{x}", "100%", "a#b", "a'b", "UPPER", "-dash", "a+b", "x=1", "日本"]


@dataclass
class OddInput:
    """An input: the section `images` of its configuration, and what must come out of it.

    `captions` has the caption of each picture that is a row; `rejected` is the number of rejected rows; with `error`,
    the run must end with an error that contains this text.
    """

    section: dict[str, Any]
    captions: dict[int, str | None] = field(default_factory=dict)
    rejected: int = 0
    error: str | None = None


def number(image: Image.Image) -> int:
    """The number of a picture."""
    red, green, blue = (value // 16 for value in image.convert("RGB").getpixel((0, 0)))  # type: ignore[union-attr]
    return int(red * 256 + green * 16 + blue)


class Generator:
    """Makes one odd input in a new folder."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.random, self.next = folder, random.Random(seed), 0  # noqa: S311 (no secrets)

    def make(self) -> OddInput:
        """An input of a random kind."""
        return self.random.choice([self.addresses, self.encoded, self.coco, self.tars, self.tree])()

    def chance(self, share: float) -> bool:
        return self.random.random() < share

    def text(self) -> str:
        return self.random.choice(TEXTS) if self.chance(0.7) else " ".join(self.random.choices(WORDS, k=3))

    def picture(self, format: str | None = None) -> tuple[int, str, bytes]:
        """The number, the extension and the bytes of a new picture."""
        self.next += 1
        format = format or self.random.choice(list(SUFFIXES))
        colour = tuple(16 * (self.next >> shift & 15) + 8 for shift in (8, 4, 0))
        data, options = io.BytesIO(), {"WEBP": {"lossless": True}, "JPEG": {"quality": 95, "subsampling": 0}}
        Image.new("RGB", (self.random.randint(1, 40), self.random.randint(1, 40)), colour).save(
            data, format, **options.get(format, {})
        )
        return self.next, SUFFIXES[format], data.getvalue()

    def bad(self) -> bytes:
        """Bytes that are no picture."""
        return self.random.choice([b"", b"words", self.picture("PNG")[2][:30], b"<html></html>", bytes(999)])

    def write(self, path: str, data: bytes) -> str:
        place = self.folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        assert not place.exists()
        place.write_bytes(data)
        return path

    def name(self, suffix: str) -> str:
        """A new file name, in a folder or not."""
        self.next += 1
        folders = [self.random.choice(WORDS) for _ in range(self.random.choice([0, 0, 1, 2]))]
        suffix = suffix.upper() if self.chance(0.2) else suffix
        return "/".join([*folders, f"{self.random.choice(WORDS)}-{self.next}.{suffix}"])

    # --- tables

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

    # --- COCO

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

    # --- tars

    def tars(self) -> OddInput:
        """WebDataset tars, plain or compressed, some empty, with captions in several ways."""
        result = OddInput({"format": "webdataset"})
        folder = self.random.choice(["t", "t [1]", "x.tar"])
        for i in range(self.random.randint(1, 3)):
            members = [member for _ in range(self.random.randint(i == 0, 6)) for member in self.sample(result)]
            clear = all(name.rpartition("/")[2].count(".") == 1 for name, _ in members)  # `a.b.txt` is of `a` or `a.b`
            if clear and self.chance(0.4):  # texts after all pictures
                members.sort(key=lambda member: member[0].endswith((".txt", ".json")))
            mode, suffix = self.random.choice([("w", "tar"), ("w:gz", "tar.gz"), ("w:gz", "tgz"), ("w:gz", "tar")])
            data = io.BytesIO()
            with tarfile.open(None, mode, data) as tar:  # type: ignore[call-overload]
                for name, content in members:
                    info = tarfile.TarInfo(name)
                    info.size = len(content)
                    tar.addfile(info, io.BytesIO(content))
            self.write(f"{folder}/{i:05d}.{suffix}", data.getvalue())
            if self.chance(0.2):
                self.write(f"{folder}/._{i:05d}.{suffix}", b"\0\5\x16\7")
        result.section["path"] = [folder]
        return result

    def sample(self, result: OddInput) -> Iterator[tuple[str, bytes]]:
        """The members of a sample, counted in `result`."""
        self.next += 1
        folder = self.random.choice(["", "", "./", "a/b.c/"])
        stems = [f"{self.next:06d}", f"photo.{self.next}", f"Über {self.next}", f"A.b.{self.next}"]
        stem = folder + self.random.choice(stems)
        good, caption = self.chance(0.85), self.text().strip() if self.chance(0.8) else None
        identity, suffix, data = self.picture()
        suffix = suffix.upper() if self.chance(0.2) else suffix
        texts = list[tuple[str, bytes]]()
        if caption is not None:
            content: Any = {"caption": caption, "n": self.random.choice([1, 2.5, "x", None, True, ["a"]])}
            as_text = self.chance(0.5)
            texts = [(f"{stem}.txt", caption.encode()) if as_text else (f"{stem}.json", json.dumps(content).encode())]
        if self.chance(0.1):  # a text alone; beside `photo.1.jpg`, `photo.2.txt` would be of the sample `photo`
            result.rejected += 1
            yield f"alone-{self.next}.txt", b"a text"
            return
        if good:
            result.captions[identity] = caption
        else:
            result.rejected += 1
        pictures = [(f"{stem}.{suffix}", data if good else self.bad())]
        if self.chance(0.15):  # a sample of two pictures is two rows
            another, suffix, data = self.picture("PNG" if suffix.lower() != "png" else "BMP")
            pictures.append((f"{stem}.{suffix}", data))
            result.captions[another] = caption
        yield from self.random.choice([[*pictures, *texts], [*texts, *pictures]])

    # --- folders

    def tree(self) -> OddInput:
        """A folder with sub-folders, links, files that are no pictures, and captions beside the pictures."""
        result = OddInput({"format": "folder", "path": ["im"], "shard_size": self.random.choice([2, 5, 100])})
        for i in range(self.random.randint(1, 14)):
            self.file(result, good=i == 0 or self.chance(0.85))
        for name, data in ((".hidden.jpg", b"x"), ("notes.pdf", b"x"), ("Thumbs.db", b"x"), (".git/a.png", b"x")):
            if self.chance(0.3):
                self.write(f"im/{name}", data)
        for name in ("a.dng", "b.jxl"):
            if self.chance(0.3):
                self.write(f"im/{name}", b"II*\0")
                result.rejected += 1
        if self.chance(0.3):
            (self.folder / "im/loop").symlink_to(self.folder / "im", target_is_directory=True)
        if self.chance(0.3):
            identity, suffix, data = self.picture()
            self.write(f"elsewhere/{self.name(suffix)}", data)
            result.captions[identity] = None
            for link in ("im/linked", "im/linked again"):
                (self.folder / link).symlink_to("../elsewhere", target_is_directory=True)
        return result

    def file(self, result: OddInput, good: bool) -> None:
        """A picture with or without a caption beside it, counted in `result`."""
        identity, suffix, data = self.picture()
        name = self.name(suffix)
        if good and self.chance(0.15):
            name = name.rpartition(".")[0].replace(".", "-")  # told by its first bytes
        self.write(f"im/{name}", data if good else self.bad())
        if not good:
            result.rejected += 1
            return
        result.captions[identity] = None
        if self.chance(0.4):
            caption = result.captions[identity] = self.text().strip()
            stem = name.removesuffix(f".{suffix}").removesuffix(f".{suffix.upper()}")
            beside = (
                (f"{stem}.txt", caption) if self.chance(0.5) else (f"{stem}.json", json.dumps({"caption": caption}))
            )
            self.write(f"im/{beside[0]}", beside[1].encode())
