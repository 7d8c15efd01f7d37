"""What a run will take in time, disk and memory.

May import the library and everything in `pipelines` up to `run`. Changes nothing.
"""
