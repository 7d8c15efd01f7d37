"""Scores against known labels: ACC, NMI, ARI, the k-means baseline, and scores of names.

May import `naming` and the rooms below it. Nothing here changes a result.
"""
