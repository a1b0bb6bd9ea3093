"""What the market did: price history and the parameters calibrated on it."""
