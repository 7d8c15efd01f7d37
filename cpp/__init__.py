"""Cluster very large image collections by rate reduction of CLIP features, and name the clusters.

The library: pure functions over arrays and files, importable on a laptop. It knows nothing of Ray or of `pipelines`.
"""

__version__ = "0.1.0"
