"""The Ray backend: a pool of workers, distributed training, and the cluster. Only this folder imports Ray.

May import the library, `pipelines.config` and `pipelines.engine`. Does not know any particular stage.
"""
