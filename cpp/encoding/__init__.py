"""Image bytes to pixels, and images and words to unit vectors by an open_clip model.

May import `files`, `store` and `sources`. Does not know what the vectors are used for.
"""
