"""One file per command; `anyview.__main__` picks it."""
