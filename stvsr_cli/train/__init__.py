"""Training of the models, stage by stage."""

from stvsr_cli.train.loop import run

__all__ = ["run"]
