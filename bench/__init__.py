"""Measurements, each a ratio against something named in the same run."""
