"""Contrastive multi-label learning for any Hugging Face text or vision encoder."""

__version__ = "0.1.0"
