"""The error of a configuration that cannot be used."""

from __future__ import annotations


class ConfigError(ValueError):
    """A configuration that cannot be run. The message names file, key, value and remedy of every fault."""
