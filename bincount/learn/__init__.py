"""Tensors: from a photo's bytes to calibrated probabilities of its count."""
