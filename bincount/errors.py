"""The kinds of error that bincount raises, by what the reader should do.

Every message reads ``where: what is wrong, got VALUE.``
"""


class BincountError(Exception):
    """An error with a message for the user."""


class ConfigError(BincountError):
    """A setting is wrong. A retry cannot help."""


class DataError(BincountError):
    """An object is not what its format promises. A retry cannot help."""


class RowError(DataError):
    """One item of a batch is not what its format promises.

    Attributes:
        row: Its index in the batch.
        message: The fault, without the row.
    """

    def __init__(self, row: int, message: str) -> None:
        super().__init__(f"row {row}: {message}")
        self.row, self.message = row, message


class StoreError(BincountError):
    """A bucket or a server did not answer as it should. A retry may help."""
