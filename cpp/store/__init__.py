"""The run folder on a local disk or in a bucket: products, fingerprints, atomic commits, stable names, one writer.

May import `files`. Does not know what is in a file, or which step writes it.
"""
