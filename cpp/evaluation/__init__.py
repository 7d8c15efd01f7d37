"""Scores against known labels: ACC, NMI, ARI, the k-means baseline, and what names are right and how sure they are.

May import `naming` and the rooms below it. Nothing here changes a result.
"""
