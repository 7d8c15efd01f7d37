"""The demonstration: drawn pictures, and the small CLIP model that is trained on them.

May import `files`, `store`, `sources` and `encoding`. Nothing but the demonstration uses it.
"""
