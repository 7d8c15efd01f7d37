"""The mathematics of rate reduction: coding rate, Sinkhorn, the heads and their two training recipes.

May import `nearest`. Works on tensors; does not read or write data files.
"""
