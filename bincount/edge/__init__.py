"""The doors to the outside: the environment, buckets, the tracking server."""
