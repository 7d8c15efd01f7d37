"""Credentials in addresses: refuses addresses that carry them, and removes them from text."""

from __future__ import annotations

import os
import re
from urllib.parse import parse_qsl, urlsplit

from cpp.files.filesystem import is_remote

_SECRET = re.compile(r"(?i)sign|^sig$|token|secret|credential|password|access_?key|api_?key|^key$")
_VARIABLES = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
_QUERY = re.compile(r"(?<=[?&])([^=&\s]+)=[^&\s'\"<>]+")
_USER = re.compile(r"(\w://)[^/@\s'\"]+@")


def check_address(text: str) -> None:
    """ValueError for an address with a user, password, key or signature; the message does not repeat them."""
    for address in text.split("::"):
        if not is_remote(address):
            continue
        parts = urlsplit(address)
        query = [name for name, _ in parse_qsl(parts.query, keep_blank_values=True) if _SECRET.search(name)]
        if "@" in parts.netloc or query:
            kind = f"{query[0]}=..." if query else "user:password@"
            raise ValueError(
                f"the address {parts.scheme}://... holds credentials ({kind}), which would appear in logs and results. "
                "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE or GOOGLE_APPLICATION_CREDENTIALS instead"
            )


def redacted(text: str) -> str:
    """Replace the values of credentials in the environment, and users and secret queries of addresses, by ***."""
    for value in (os.environ.get(name) for name in _VARIABLES):
        if value:
            text = text.replace(value, "***")
    return _USER.sub(r"\1***@", _QUERY.sub(_hidden, text))


def _hidden(match: re.Match[str]) -> str:
    return f"{match[1]}=***" if _SECRET.search(match[1]) else match[0]
