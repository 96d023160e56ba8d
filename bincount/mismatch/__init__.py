"""How probable it is that a record is wrong: pure functions."""
