"""Metrics in the layout of the `evaluate` library; each folder is self-contained, as a Space is. Imports nothing."""
