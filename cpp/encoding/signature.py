"""Signatures of pictures, which tell whether two similar vectors belong to copies of one picture. Knows no vectors.

A signature has perceptual hashes: the signs of the low frequencies of the picture's discrete cosine transform about
their median (Zauner, "Implementation and benchmarking of perceptual image hash functions", 2010). It has one hash of
the whole, one of its mirror image, and one of each of several crops. Two pictures are compared by the whole, or the
mirror image, of the one and all crops of the other, so that a copy may be scaled, compressed, mirrored or slightly
cropped. Hashes are blind to colour, so a signature has the mean and the root mean square of both colour channels too.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Signatures = NDArray[np.uint64]

SAME_BITS = 26  # by which hashes of copies differ at most; tests/bench/RESULTS.md has how both were chosen
SAME_COLOUR = 4.0  # by which each of the four measures of colour differs at most, of 255

_FREQUENCIES = 16  # in each direction: 256 bits in a hash
_WORDS = _FREQUENCIES**2 // 64  # 64-bit words in a hash
_SIDE = 128  # pixels of the square that a picture is scaled to before it is cropped
_MARGINS = (0.03, 0.05, 0.07, 0.09)  # mean margins that are cropped, as shares of a side
_SHIFTS = (-0.015, 0.0, 0.015)  # displacements of a crop in each direction, as shares of a side
_CROPS = [(0.0, 0.0, 1.0, 1.0)] + [
    (m + x, m + y, 1 - m + x, 1 - m + y) for m in _MARGINS for x in _SHIFTS for y in _SHIFTS
]
_HASHES = 1 + len(_CROPS)  # the mirror image, the whole, and the crops
_COLOUR_STEP = 1 / 64  # of the stored measures of colour
SIZE = _HASHES * _WORDS + 1  # 64-bit words in a signature, the last of which has the colours
_CHUNK = 4096  # pairs that are compared at a time


def signature(image: Image.Image) -> Signatures:
    """The signature of a picture, `[SIZE]`; never all zeros."""
    small = image.convert("RGB").resize((_SIDE, _SIDE), Image.Resampling.BOX)
    transforms, vertical, horizontal = _crop_transforms()
    rows = transforms @ np.asarray(small.convert("L"), np.float32)
    low = rows[vertical] @ transforms[horizontal].mT
    mirror = low[:1] * np.where(np.arange(_FREQUENCIES) % 2, -1, 1)  # odd horizontal frequencies change their sign
    frequencies = np.concatenate([mirror, low]).reshape(_HASHES, -1)
    bits = frequencies > np.median(frequencies, axis=1, keepdims=True)
    chroma = np.asarray(small.convert("YCbCr"), np.float32)[..., 1:].reshape(-1, 2) - 128
    colour = np.concatenate([chroma.mean(axis=0), np.sqrt(np.square(chroma).mean(axis=0))]) / _COLOUR_STEP
    colour_word = np.rint(colour).astype(np.int16).view(np.uint64)
    return np.concatenate([np.packbits(bits, axis=1).view(np.uint64).reshape(-1), colour_word])


@functools.cache
def _crop_transforms() -> tuple[NDArray[np.float32], list[int], list[int]]:
    """Matrices `[intervals, _FREQUENCIES, _SIDE]`, and for every crop those of its vertical and horizontal interval.

    A matrix takes a side of the picture to the low frequencies of an interval of it: Pillow's bilinear scaling, which
    is linear, followed by the discrete cosine transform. A crop costs two small products this way.
    """
    from scipy.fft import dct

    intervals = list(dict.fromkeys(crop[axis::2] for crop in _CROPS for axis in (0, 1)))
    identity = Image.fromarray(np.eye(_SIDE, dtype=np.float32))
    scaled = [
        np.asarray(
            identity.resize(
                (_SIDE, 2 * _FREQUENCIES), Image.Resampling.BILINEAR, box=(0, _SIDE * low, _SIDE, _SIDE * high)
            )
        )
        for low, high in intervals
    ]
    transforms = dct(np.stack(scaled), axis=1)[:, :_FREQUENCIES].astype(np.float32)
    vertical, horizontal = ([intervals.index(crop[axis::2]) for crop in _CROPS] for axis in (1, 0))
    return transforms, vertical, horizontal


def same_picture(A: Signatures, B: Signatures) -> NDArray[np.bool_]:
    """Whether pairs of signatures `[n, SIZE]` are those of copies, `[n]`; False for one of zeros, which is unknown."""
    known = A.any(axis=1) & B.any(axis=1) & (colour_difference(A, B) <= SAME_COLOUR)
    known[known] = differing_bits(A[known], B[known]) <= SAME_BITS
    return known


def colour_difference(A: Signatures, B: Signatures) -> NDArray[np.float64]:
    """The largest difference, `[n]`, of the measures of colour of pairs of signatures."""
    colours = (np.ascontiguousarray(S[:, -1:]).view(np.int16).astype(np.float64) for S in (A, B))
    difference: NDArray[np.float64] = np.abs(np.subtract(*colours)).max(axis=1) * _COLOUR_STEP
    return difference


def differing_bits(A: Signatures, B: Signatures) -> NDArray[np.int64]:
    """The least number of bits, `[n]`, by which hashes of pairs of signatures differ."""
    hashes = [S[:, :-1].reshape(-1, _HASHES, _WORDS) for S in (A, B)]
    parts = [np.empty(0, np.int64)]
    for start in range(0, len(A), _CHUNK):
        one, other = (H[start : start + _CHUNK] for H in hashes)
        parts.append(np.minimum(_one_way(one, other), _one_way(other, one)))
    return np.concatenate(parts)


def _one_way(H: Signatures, crops: Signatures) -> NDArray[np.int64]:
    """The least distance of the whole and of the mirror image of one to the whole and the crops of the other."""
    bits = np.bitwise_count(H[:, :2, None] ^ crops[:, None, 1:]).sum(axis=-1, dtype=np.int64)
    return np.asarray(bits.min(axis=(1, 2)), np.int64)
