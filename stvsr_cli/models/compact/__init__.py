"""The compact model: one-step latent diffusion at a size that runs anywhere."""

from stvsr_cli.models.compact.model import CompactModel, load

__all__ = ["CompactModel", "load"]
