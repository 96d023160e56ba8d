"""Bytes by key: S3 buckets and folders."""
