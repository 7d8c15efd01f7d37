"""The configuration of a run: the sections of its YAML file, loading, and `ConfigError`.

May import the library. Does not know which steps a run has.
"""
