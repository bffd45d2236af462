"""The data stage: base images, multi-label composition, one verified store per data set."""
