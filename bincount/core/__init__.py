"""Facts and rules: no bucket, no tensor, no clock."""
