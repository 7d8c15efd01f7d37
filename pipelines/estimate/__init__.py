"""Estimates the time, disk space and memory of a run before it starts.

May import the library and everything in `pipelines` up to `run`. Changes nothing.
"""
