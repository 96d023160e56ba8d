"""Renders sample bins."""
