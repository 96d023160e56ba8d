"""Runs one step in a process of its own that ends with its owner."""
