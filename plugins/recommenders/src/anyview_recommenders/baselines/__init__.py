"""Classical recommenders that every result stands beside; each is a function that returns a scorer."""
