"""From a trained model to the champion."""
