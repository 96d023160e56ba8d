"""What counting the bins of a worklist found."""
