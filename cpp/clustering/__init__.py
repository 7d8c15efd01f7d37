"""Partition of codes into clusters: coding length, merge tree, estimate of K, layers, quality, drift.

May import `nearest` and `rate_reduction`. Works on arrays and moments; does not know files or names.
"""
