"""The networks that are searched over: pure functions, the architecture as data."""
