"""Real bins beside the checkout, where there are any."""

from pathlib import Path

import pytest

# The nearest folder `shared` on the way up.
ABID = next(
    (found for parent in Path(__file__).parents if (found := parent / "shared" / "abid").is_dir()), Path("absent")
)


def needs_abid(test):
    """Marks a test that reads the real bins, and skips it where they are absent."""
    return pytest.mark.shared(pytest.mark.skipif(not ABID.is_dir(), reason="no shared/abid beside the checkout")(test))
