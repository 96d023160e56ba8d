"""Probability that a record is wrong: likelihoods, posterior, calibration, conformal sets and verdicts. Pure."""
