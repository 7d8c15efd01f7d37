"""Errors that the user can fix. The command line prints their message alone, without a traceback."""

from __future__ import annotations

import yaml

YAML_ERRORS = (yaml.YAMLError, ValueError, RecursionError)  # a ValueError for a date such as 2024-30-12


class UserError(ValueError):
    """Base of the errors whose message names what is wrong and the fix: exit code 2."""


class ConfigError(UserError):
    """A configuration that cannot be run. The message names file, key, value and remedy of every fault."""


class UsageError(UserError):
    """A command-line option or argument that does not fit the run. The message names the option and its bounds."""


class RunStateError(UserError):
    """A run folder that is not in the state that a command needs, such as an unfinished run."""


class ResourceError(UserError):
    """The machine or the cluster cannot run the workers that the configuration asks for."""


class ClusterError(UserError):
    """The Ray cluster does not answer, or one of its nodes cannot work on this run."""


def invalid_yaml(place: str, error: Exception) -> ConfigError:
    """The error for a text that cannot be parsed, which `place` names."""
    fix = "; a text that looks like a date or a number needs quotation marks" if type(error) is ValueError else ""
    return ConfigError(f"{place}: not valid YAML: {error}{fix}")
