"""The three ways bincount fails, by what the reader should do.

Every message reads ``where: rule, got value. what to do.``
"""


class BincountError(Exception):
    """What bincount raises on purpose; its message says what to do."""


class ConfigError(BincountError):
    """A setting is wrong. Retrying cannot help; change the setting."""


class DataError(BincountError):
    """An object is not what its format promises. Retrying cannot help."""


class StoreError(BincountError):
    """A bucket or a server did not answer as it should. A retry may help."""
