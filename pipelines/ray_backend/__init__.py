"""The pool of Ray workers, distributed training, and the cluster: the only door to Ray.

May import the library, `config` and `engine`. Does not know any particular stage.
"""
