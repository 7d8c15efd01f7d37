"""What should leave a data set and why: duplicates, outliers, balance, and the decisions from them.

May import `nearest`, `rate_reduction` and `clustering`. Works on arrays; does not read images.
"""
