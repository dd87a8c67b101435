"""A plugin to copy; what it adds is declared in `plugin`."""
