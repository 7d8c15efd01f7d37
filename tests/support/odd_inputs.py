"""Random inputs of every kind that are as odd as those of real collections, with the rows that they must give."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from tests.support.odd_parts import OddInput
from tests.support.odd_tables import Tables
from tests.support.odd_vectors import Vectors


class Generator(Tables, Vectors):
    """Makes one odd input in a new folder."""

    def make(self) -> OddInput:
        """An input of a random kind."""
        kinds = [self.addresses, self.encoded, self.coco, self.tars, self.crowded, self.tree, self.vectors]
        return self.random.choice(kinds)()

    def tars(self) -> OddInput:
        """WebDataset tars, plain or compressed, some empty, with captions in several ways."""
        result = OddInput({"format": "webdataset"})
        folder = self.random.choice(["t", "t [1]", "x.tar"])
        for i in range(self.random.randint(1, 3)):
            members = [member for _ in range(self.random.randint(i == 0, 6)) for member in self.sample(result)]
            clear = all(name.rpartition("/")[2].count(".") == 1 for name, _ in members)  # `a.b.txt` is of `a` or `a.b`
            if clear and self.chance(0.4):  # texts after all pictures
                members.sort(key=lambda member: member[0].endswith((".txt", ".json")))
            suffix = self.tar(f"{folder}/{i:05d}", members)
            if self.chance(0.2):
                self.write(f"{folder}/._{i:05d}.{suffix}", b"\0\5\x16\7")
        result.section["path"] = [folder]
        return result

    def crowded(self) -> OddInput:
        """A tar in which few stems with further dots repeat, with texts and formats of all kinds."""
        members, texts, result = list[tuple[str, bytes]](), set[str](), OddInput({"format": "webdataset"})
        for i in range(self.random.randrange(1, 40)):
            stem, inner = self.random.choice("abcd"), self.random.choice(["", "", "", ".1", ".2", ".Back", ".v1.2"])
            name = f"{self.random.choice(['', 'in/'])}{stem}{inner}"
            if i == 0 or self.chance(0.6):
                ending = self.random.choice([".jpg", ".JPG", ".png", ".gif", ".jfif", ".dng", ".heic", "", ".weird"])
                identity, _, data = self.picture("PNG")
                members.append((f"{name}{'.png' if i == 0 else ending}", data))
                result.captions[identity] = None
                continue
            ending = self.random.choice([".txt", ".json", ".cls", ".mp4", ".md"])
            content = f'{{"field {i}": "text {i}"}}' if ending == ".json" else f"text {i}"
            members.append((name + ending, content.encode()))
            texts |= {f"text {i}"} if ending in (".txt", ".json", ".cls") else set()
        result.section["path"] = [f"crowded.{self.tar('crowded', members)}"]
        result.texts = texts
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

    def tree(self) -> OddInput:
        """A folder with sub-folders, links, files that are no pictures, and captions beside the pictures."""
        result = OddInput({"format": "folder", "path": ["im"], "shard_size": self.random.choice([2, 5, 100])})
        for i in range(self.random.randint(1, 14)):
            self.file(result, good=i == 0 or self.chance(0.85))
        for name, data in (
            (".hidden.jpg", b"x"),
            ("notes.pdf", b"x"),
            ("Thumbs.db", b"x"),
            (".git/a.png", b"x"),
            ("a.mp4", b"x"),
        ):
            if self.chance(0.3):
                self.write(f"im/{name}", data)
        for target in ("none", ".", "a"):
            if self.chance(0.2):
                (self.folder / f"im/link to {target}").symlink_to(target)
        for name in ("a.dng", "b.jxl", "c.tar/c.dng"):
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
        stem = name.removesuffix(f".{suffix}").removesuffix(f".{suffix.upper()}")
        if good and self.chance(0.3):  # told by its first bytes
            name = self.random.choice([stem.replace(".", "-"), f"{stem}.weird", f"{stem}.jfif"])
            stem = name.rpartition(".")[0] or name
        self.write(f"im/{name}", data if good else self.bad())
        if not good:
            result.rejected += 1
            return
        result.captions[identity] = None
        if self.chance(0.4):
            caption = result.captions[identity] = self.text().strip()
            beside = self.random.choice([stem, name])
            if self.chance(0.5):
                self.write(f"im/{beside}.txt", caption.encode())
            else:
                self.write(f"im/{beside}.json", json.dumps({"caption": caption}).encode())
            if self.chance(0.2) and beside == stem and name != stem:  # a caption is that of all pictures with its stem
                another, _, data = self.picture("PNG")
                self.write(f"im/{stem}.jp2", data)
                result.captions[another] = caption
