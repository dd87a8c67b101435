"""Recommenders: self-supervised recommendation from logs of interactions."""
