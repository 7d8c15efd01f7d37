"""What a run can read: WebDataset tars, image folders, COCO, Parquet and other tables, and existing vectors.

May import `files` and `store`. Does not decode images.
"""
