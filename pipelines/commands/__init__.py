"""The commands beside `run`: init, append, export, predict, clean, names, search, status.

May import the library and everything else in `pipelines` but `__main__`.
"""
