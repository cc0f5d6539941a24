"""Space-time video super-resolution by one-step diffusion."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stvsr_cli.job.job import Job
    from stvsr_cli.job.report import Report
    from stvsr_cli.pipeline.upscale import upscale

__version__ = "0.1.0"
__all__ = ["Job", "Report", "upscale"]


def __getattr__(name: str) -> Any:
    """Import the pipeline, and torch with it, when it is first asked for."""
    if name == "upscale":
        from stvsr_cli.pipeline.upscale import upscale

        return upscale
    if name == "Report":
        from stvsr_cli.job.report import Report

        return Report
    if name == "Job":
        from stvsr_cli.job.job import Job

        return Job
    raise AttributeError(name)
