"""One machine: the stack, the sample bins and the bucket that serves them."""
