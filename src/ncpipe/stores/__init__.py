"""The stores wing: Zarr stores with digests, small files that are whole or not there, and locks."""
