"""The steps of a run, one file for each group of steps.

May import the library, `config` and `engine`. No stage imports another stage; they share `artifacts` and `schemas`.
"""
