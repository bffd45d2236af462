"""The optimum wing: the certified global optimum of (7), its bounds, thresholds and laws."""
