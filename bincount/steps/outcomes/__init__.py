"""What came back from counting: joined to its worklist, kept, and learned from."""
