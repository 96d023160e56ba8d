"""The client of the model server: `from bincount.client import Client`."""

from bincount.core.errors import BincountError, ConfigError, DataError, StoreError
from bincount.edge.model_server import Client

__all__ = ["BincountError", "Client", "ConfigError", "DataError", "StoreError"]
