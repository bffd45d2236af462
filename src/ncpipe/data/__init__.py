"""The data stage: base images, multi-label composition, one verified store per data set."""

DATA_VERSION = 1  # raise it whenever equal specifications begin to give other images
