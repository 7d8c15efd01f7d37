"""The HTML pages and pictures that show a run: cards, map, charts, thumbnails, curation pages.

May import the rooms below it and `naming`. Does not read the files of a run.
"""
