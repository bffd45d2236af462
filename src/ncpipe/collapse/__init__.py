"""The collapse stage: what a run's features look like, epoch by epoch, against what theory says they can become."""
