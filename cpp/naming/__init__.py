"""Names for clusters: vocabularies, WordNet, votes of images for words, caption phrases, search by text.

May import everything below except `report`, `export` and `evaluation`. Does not know what is true.
"""
