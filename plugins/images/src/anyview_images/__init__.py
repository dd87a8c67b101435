"""Self-supervised learning on images; what it brings is declared in `plugin`."""
