"""`--engine ray`: what is asked of the cluster."""

from typing import TYPE_CHECKING

from stvsr_cli.errors import UsageError

if TYPE_CHECKING:
    from stvsr_cli.engine.ray.cluster import RayConfig

ENGINES = ("local", "ray")


def parse_engine(
    engine: str, *, address: str, workers: int | None, gpus_per_worker: float, ship: str
) -> "RayConfig | None":
    """What is asked of Ray; None: the local engine is asked for. Raises UsageError."""
    if engine not in ENGINES:
        raise UsageError(f"--engine {engine!r} is not known.", hint=f"Use {' or '.join(ENGINES)}.")
    if engine == "ray":
        from stvsr_cli.engine.ray.cluster import RayConfig

        return RayConfig(address=address, workers=workers, gpus_per_worker=gpus_per_worker, ship=ship)
    if (address, workers, gpus_per_worker, ship) != ("auto", None, 1.0, "auto"):
        raise UsageError(
            "--address, --workers, --gpus-per-worker and --ship are for --engine ray.",
            hint="Add it, or leave them out.",
        )
    return None
