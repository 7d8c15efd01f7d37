"""Names for clusters: vocabularies, WordNet, votes of images for words, caption phrases, search by text.

May import the rooms of features and clusters. Does not know what is true.
"""
