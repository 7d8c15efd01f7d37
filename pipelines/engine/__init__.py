"""How a step is carried out: stages, plans, shards, one attempt at a shard, row accounting, events, progress.

May import the library and `config`. Does not know Ray or any particular stage.
"""
