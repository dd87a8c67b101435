"""Self-supervised learning on graphs; what it brings is declared in `plugin`."""
