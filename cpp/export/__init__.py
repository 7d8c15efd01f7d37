"""Write a finished run as a labelled data set: WebDataset, ImageFolder, CSV, Parquet, Hugging Face, FiftyOne.

May import the rooms below it, not `naming` or `report`. Does not know how a run is computed.
"""
