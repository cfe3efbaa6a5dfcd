"""The `evaluate` module `multilabel_f1`; its one file is `multilabel_f1.py`. Imports nothing (`evaluate` is heavy)."""
