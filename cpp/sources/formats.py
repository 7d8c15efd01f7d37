"""The one list of picture formats, for folders, tars and tables: which are read, and how they are told.

A file is judged by its name, and without a known extension by its first bytes. Decodes nothing.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from cpp.sources.samples import Reason

HEAD = 512  # bytes from the start of a file that show its format

# extension -> Pillow's name of the format; HEIF needs the package pillow-heif
READ = {
    "jpg": "JPEG", "jpeg": "JPEG", "jpe": "JPEG", "jfif": "JPEG", "jif": "JPEG", "jfi": "JPEG", "mpo": "JPEG",
    "png": "PNG", "apng": "PNG", "webp": "WEBP", "gif": "GIF", "bmp": "BMP", "dib": "BMP", "tif": "TIFF",
    "tiff": "TIFF", "pbm": "PPM", "pgm": "PPM", "ppm": "PPM", "pnm": "PPM", "pfm": "PPM", "avif": "AVIF",
    "avifs": "AVIF", "jp2": "JPEG2000", "j2k": "JPEG2000", "j2c": "JPEG2000", "jpx": "JPEG2000", "jpf": "JPEG2000",
    "heic": "HEIF", "heif": "HEIF", "hif": "HEIF",
}  # fmt: skip


def _each(extensions: str, reason: Reason) -> dict[str, Reason]:
    return dict.fromkeys(extensions.split(), reason)


# extension -> why pictures of the format are rejected
UNREAD = {
    **_each(
        "dng cr2 cr3 crw nef nrw arw srf sr2 raf orf rw2 pef srw x3f rwl iiq 3fr erf mef mos mrw kdc dcr", Reason.RAW
    ),
    **_each("jxl", Reason.JPEG_XL),
    **_each("svg svgz eps ai wmf emf cdr", Reason.VECTOR),
    **_each("psd psb xcf exr hdr ico cur icns tga dds qoi jxr wdp jls pcx sgi fits dcm flif", Reason.FORMAT),
}

_TEXT = "txt caption cls json jsonl ndjson csv tsv xml yaml yml md rst html htm css js py ipynb sh toml ini cfg log"
_DATA = "parquet arrow feather npy npz pt pth pkl pickle safetensors onnx h5 hdf5 mdb db sqlite tfrecord index idx"
_ARCHIVES = "tar gz tgz bz2 tbz xz txz zst tzst zip 7z rar iso"
_MEDIA = "mp4 mov avi mkv webm m4v mpg mpeg wmv 3gp mp3 wav flac m4a ogg aac opus srt vtt"
_MORE = "pdf doc docx xls xlsx ppt pptx ttf otf exe dll so xmp aae thm lrv url lnk"
# extensions of files that are no pictures; their first bytes are not looked at
OTHER = frozenset(f"{_TEXT} {_DATA} {_ARCHIVES} {_MEDIA} {_MORE}".split())

TARS = (
    ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".tar.zstd", ".tzst",
)  # fmt: skip  # usual endings of tars; what is a tar is told by its content (`cpp.sources.tar.is_tar`)

_DIB_SIZES = {12, 40, 52, 56, 64, 108, 124}  # sizes of the second header of a BMP
_BRANDS = {
    b"crx ": Reason.RAW,
    **dict.fromkeys((b"avif", b"avis", b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"), None),
}  # of the files that begin with the box `ftyp`
_PICTURES: tuple[tuple[bytes, Reason | None], ...] = (
    (rb"\xff\xd8\xff|\x89PNG\r\n\x1a\n|GIF8[79]a|RIFF....WEBP|P[1-6Ff]\s+[\d#]", None),
    (rb"II\*\0\x10\0\0\0CR|IIU\0|IIR[OS]|MMOR|FUJIFILMCCD-RAW|FOVb", Reason.RAW),
    (rb"II[*+]\0|MM\0[*+]|\0\0\0\x0cjP  |\xff\x4f\xff\x51", None),
    (rb"\xff\x0a|\0\0\0\x0cJXL ", Reason.JPEG_XL),
    (rb"8BPS|gimp xcf|v/1\x01|#\?RADIANCE|\0\0[\x01\x02]\0[^\0]|icns|DDS |qoif|II\xbc|FLIF|SIMPLE  =", Reason.FORMAT),
)  # the start of a file, and why it is rejected


def extension(name: str) -> str:
    """The extension of a file name in lower case, without the dot; empty if it has none."""
    return PurePosixPath(name).suffix[1:].lower()


def tar_stem(path: str) -> str:
    """The path of a tar without its ending."""
    ending = max((end for end in TARS if path.lower().endswith(end)), key=len, default=PurePosixPath(path).suffix)
    return path[: len(path) - len(ending)]


def is_picture_name(name: str) -> bool | None:
    """Whether a file holds a picture, by its extension; None if only its first bytes can tell."""
    kind = extension(name)
    return True if kind in READ or kind in UNREAD else False if kind in OTHER else None


def unread_name(name: str) -> Reason | None:
    """Why a picture is rejected by its extension, None if it is not."""
    return UNREAD.get(extension(name))


def is_picture(head: bytes) -> bool:
    """Whether a file holds a picture, by its first `HEAD` bytes."""
    return _format(head) is not False


def unread_format(head: bytes) -> Reason | None:
    """Why the picture that begins with these bytes is rejected; None if it is of a format that is read, or none."""
    reason = _format(head)
    return reason if isinstance(reason, Reason) else None


def _format(head: bytes) -> Reason | bool | None:
    """None for a format that is read, the reason for one that is not, False for no picture."""
    if head[4:8] == b"ftyp":
        return _BRANDS.get(head[8:12], False)
    if head[:2] == b"BM":
        return None if int.from_bytes(head[14:18], "little") in _DIB_SIZES else False
    return next((reason for start, reason in _PICTURES if re.match(start, head, re.S)), False)
