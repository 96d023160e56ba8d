"""The model that MLflow loads, and the server that follows the champion."""
