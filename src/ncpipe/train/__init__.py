"""The train stage: networks trained on a setting of a data set, features checkpointed, exactly resumable."""

TRAIN_VERSION = 1  # raise it whenever a change here alters results: finished runs are then made again
