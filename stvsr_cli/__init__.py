"""Space-time video super-resolution by one-step diffusion."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stvsr_cli.pipeline import Report, upscale
    from stvsr_cli.plan import Job

__version__ = "0.1.0"
__all__ = ["Job", "Report", "upscale"]


def __getattr__(name: str) -> Any:
    """Import the pipeline, and torch with it, when it is first asked for."""
    if name in ("Report", "upscale"):
        from stvsr_cli import pipeline

        return getattr(pipeline, name)
    if name == "Job":
        from stvsr_cli.plan import Job

        return Job
    raise AttributeError(name)
