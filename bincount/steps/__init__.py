"""The verbs: references in, a small JSON-ready dict of references out."""
