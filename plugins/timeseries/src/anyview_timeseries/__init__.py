"""Self-supervised learning on time series; what it brings is declared in `plugin`."""
