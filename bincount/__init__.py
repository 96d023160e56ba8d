"""Counts the items in a warehouse bin from one photo and finds wrong records."""
