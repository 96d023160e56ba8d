"""Sample bins: drawn from a seed, in the layout of the bucket."""
