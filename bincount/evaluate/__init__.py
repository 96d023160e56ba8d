"""Evaluation of models beside their baselines."""
