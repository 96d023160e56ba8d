"""How good a model is, and how it compares with the baselines."""
