"""A search for the best cell on the user's own images, within a budget of minutes."""
