"""From a bucket to a manifest of checked, split bins."""
