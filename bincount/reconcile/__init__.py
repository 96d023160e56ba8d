"""Compares inventory records with photos and writes the worklist."""
