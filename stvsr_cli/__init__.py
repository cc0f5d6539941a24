"""Space-time video super-resolution by one-step diffusion."""

__version__ = "0.1.0"
