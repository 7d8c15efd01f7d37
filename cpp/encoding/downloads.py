"""Weights in the cache of the Hugging Face Hub, or downloaded once. Knows no library of models."""

from __future__ import annotations

import contextlib
import difflib
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence

import huggingface_hub as hub

from cpp.encoding.weights import WeightsError

PROBE = 10.0  # seconds to wait for an answer of the server with the weights
HOW = "or set encode.pretrained to the path of a file of weights (.safetensors, or .pt with a state dict)"


def cached(repository: str, names: Sequence[str]) -> str | None:
    """The first of the files of a repository that is in the cache."""
    paths = (hub.try_to_load_from_cache(repository, name) for name in names)
    return next((path for path in paths if isinstance(path, str)), None)


def download(model: str, pretrained: str | None, url: str, fetch: Callable[[], str], tags: Sequence[str]) -> str:
    """The file that `fetch` downloads, if the server of `url` answers within `PROBE` seconds.

    WeightsError, with the nearest of the other `tags` of the model, if it cannot be downloaded.
    """
    try:
        if hub.constants.HF_HUB_OFFLINE:
            raise OSError("HF_HUB_OFFLINE is set")
        with contextlib.suppress(urllib.error.HTTPError):  # the server answers; the download reports what is missing
            request = urllib.request.Request(url, method="HEAD")  # noqa: S310 - https, from a library's table
            urllib.request.urlopen(request, timeout=PROBE).close()  # noqa: S310
        return fetch()
    except Exception as error:  # the libraries raise many kinds of errors
        near = difflib.get_close_matches(str(pretrained), tags, 5, 0.0)
        raise WeightsError(
            f"the weights of {model}, pretrained {pretrained!r}, are not on this machine and cannot be downloaded "
            f"({str(error)[:300]}): connect this machine once, {HOW}. Other tags: {', '.join(near) or 'none'}"
        ) from error
