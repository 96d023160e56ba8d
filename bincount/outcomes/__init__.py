"""Outcomes of counting the bins of a worklist."""
