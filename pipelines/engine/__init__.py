"""The engine: stages, plans, tasks, their execution in one process, row accounting, the event log and progress.

May import the library and `pipelines.config`. Does not know Ray or any particular stage.
"""
