"""lrlab: a laboratory for learning rates."""

__version__ = "0.1.0"
