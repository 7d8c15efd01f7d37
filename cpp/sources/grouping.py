"""The files of a WebDataset tar, in their order -> samples.

Grouping follows "the WebDataset format" of https://github.com/webdataset/webdataset: neighbours with equal names up to
the first dot of the file name are one sample, and that name is its key. Every picture becomes a sample or a rejected
row, also where a sample has several pictures, names have several dots, or texts do not lie beside their picture.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, NamedTuple

from cpp.sources.samples import Reason, Rejected, Sample, merge_metadata, read_json, read_label, read_text

TEXTS = ("txt", "caption", "cls", "json")  # extensions of captions, labels and metadata, in the order of reading
PENDING = 16  # pictures of one prefix held back while they may still be parts of one sample


class Member(NamedTuple):
    """A file of a tar: its path up to the first dot of the name, the rest, its bytes or why it has none.

    Files that are neither pictures nor `TEXTS` have empty bytes.
    """

    prefix: str
    extension: str
    is_picture: bool
    data: bytes | Reason


@dataclass
class _Group:
    """The members of one sample. The texts of another name than the picture have it in their extension: `mask.txt`."""

    key: str
    extensions: set[str] = field(default_factory=set)
    pictures: list[bytes | Reason] = field(default_factory=list)
    texts: dict[str, bytes | Reason] = field(default_factory=dict)
    unused: list[str] = field(default_factory=list)  # keys of further pictures
    has_link: bool = False

    def add(self, extension: str, member: Member) -> None:
        self.extensions.add(extension)
        self.has_link |= member.data == Reason.LINK
        if member.is_picture:
            self.pictures.append(member.data)
        elif extension.rpartition(".")[2] in TEXTS:
            self.texts[extension] = member.data

    def adopt(self, other: _Group, prefix: str) -> None:
        """Add the texts of another group with the same prefix, and count its pictures as unused."""
        inner = "" if other.key in (prefix, self.key) else other.key[len(prefix) + 1 :] + "."
        for extension, data in other.texts.items():
            name = f"{inner}{extension}"
            while name in self.texts:  # such as `a.txt` beside `a.1.txt` for `a.1.jpg`
                name = f".{name}"
            self.texts[name] = data
        self.unused += [other.key] * len(other.pictures)

    def metadata(self) -> dict[str, Any]:
        """The fields of the texts. `Rejected` if one cannot be read."""
        metadata: dict[str, Any] = {}
        order = [extension for extension in TEXTS if extension in self.texts]
        for extension in dict.fromkeys([*order, *self.texts]):
            column, _, kind = extension.lstrip(".").rpartition(".")
            data = self.texts[extension]
            if isinstance(data, Reason):
                raise Rejected(Reason.BAD_JSON if kind == "json" else Reason.BAD_TEXT)
            if kind == "json":
                merge_metadata(metadata, read_json(data))
            elif kind == "cls":
                merge_metadata(metadata, {column or "label": read_label(data)})
            else:
                merge_metadata(metadata, {column or "caption": read_text(data)})
        return metadata

    def samples(self) -> Iterator[Sample]:
        """A sample for each picture, a rejected row if there is none, and one for each unused picture."""
        metadata, reason = dict[str, Any](), None
        try:
            metadata = self.metadata()
        except Rejected as rejected:
            reason = rejected.reason
        for image in self.pictures or [Reason.LINK if self.has_link else Reason.NO_IMAGE]:
            if isinstance(image, Reason):
                yield Sample(self.key, None, dict(metadata), image)
            else:
                yield Sample(self.key, image, dict(metadata), reason)
        for key in self.unused:
            yield Sample(key, None, {}, Reason.ANOTHER)


def group_samples(members: Iterable[Member]) -> Iterator[Sample]:
    """The samples of a tar in order; groups without a picture come last.

    Texts that do not lie beside their picture are added to its sample, to its `metadata` in place if it was yielded:
    the metadata are complete at the end of the tar.
    """
    done, waiting = dict[str, tuple[set[str], list[dict[str, Any]]]](), dict[str, _Group]()
    for prefix, run in groupby(members, key=lambda member: member.prefix):
        for group in _groups(prefix, run):
            key, (texts, metadata) = group.key, done.get(group.key, (set(), []))
            if group.pictures:
                if key in waiting and group.texts.keys().isdisjoint(waiting[key].texts):
                    group.texts |= waiting.pop(key).texts
                samples = list(group.samples())
                done[key] = set(group.texts), [sample.metadata for sample in samples[: len(group.pictures)]]
                yield from samples
            elif metadata and texts.isdisjoint(group.texts):
                try:
                    late = group.metadata()
                except Rejected as rejected:
                    yield Sample(key, None, {}, rejected.reason)
                    continue
                texts |= group.texts.keys()
                for of_picture in metadata:
                    merge_metadata(of_picture, late)
            else:
                if key in waiting:
                    yield from waiting.pop(key).samples()
                waiting[key] = group
    for group in waiting.values():
        yield from group.samples()


def _groups(prefix: str, run: Iterable[Member]) -> Iterator[_Group]:
    """The groups among neighbours with one prefix, which are one sample unless extensions repeat or it has no `a.jpg`.

    With more than PENDING pictures such as `clip.0001.jpg` before a `clip.jpg`, each is a sample.
    """
    whole, parts, split = _Group(prefix), list[_Group](), False
    for member in run:
        inner, _, last = member.extension.rpartition(".")
        last = last.lower()
        if not inner:
            if last in whole.extensions:
                yield from _one_or_parts(whole, parts, split)
                whole, parts = _Group(prefix), []
            whole.add(last, member)
            continue
        key = f"{prefix}.{inner}"
        if whole.pictures and not split:
            part = _Group(key)
            part.add(last, member)
            whole.adopt(part, prefix)
            continue
        if not parts or parts[-1].key != key or last in parts[-1].extensions:
            parts.append(_Group(key))
        parts[-1].add(last, member)
        if split or sum(bool(part.pictures) for part in parts) > PENDING:
            split = True
            yield from parts[:-1]
            parts = parts[-1:]
    yield from _one_or_parts(whole, parts, split)


def _one_or_parts(whole: _Group, parts: list[_Group], split: bool) -> Iterator[_Group]:
    """The sample of all members; or the samples of the parts, if several of them and not `whole` have a picture."""
    prefix, pictured = whole.key, [part for part in parts if part.pictures]
    if not split and (whole.pictures or len(pictured) == 1):
        taken = whole if whole.pictures else pictured[0]
        others = [group for group in (whole, *parts) if group is not taken and group.extensions]
        for other in others:
            taken.adopt(other, prefix)
        if any(other.key != taken.key for other in others):
            taken.key = prefix
        yield taken
        return
    for part in pictured if not split else ():
        part.adopt(whole, prefix)
    if whole.extensions and (split or not pictured):
        yield whole
    yield from parts
