"""What `reconcile` is made of."""
