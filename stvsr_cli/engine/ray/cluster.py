"""The cluster: Ray on this machine or on many, and how many workers it has room for."""

import io
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from dataclasses import dataclass
from typing import Any, TextIO

from stvsr_cli.engine.ray.pieces import Tools
from stvsr_cli.engine.ray.pool import Pool
from stvsr_cli.engine.ray.worker import Worker
from stvsr_cli.errors import DeviceError, UsageError
from stvsr_cli.job.job import Job

logger = logging.getLogger(__name__)

SHIP = ("auto", "always", "never")
LOCAL_STORE_BYTES = 1 << 29
"""Of Ray's memory for what travels, where Ray is started here; more goes to the disk."""
MOST_CPUS = 4
"""Cores of a worker on CPUs, unless more threads are asked for."""
MODEST = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
"""Settings of a Ray that is started here: it reports to nobody."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RayConfig:
    address: str = "auto"
    """local: start Ray here; HOST:PORT: a cluster that runs; auto: the one that runs here, or local."""
    workers: int | None = None
    """Workers; None: one for each GPU, or as many as the cores allow."""
    gpus_per_worker: float = 1.0
    """Below 1, workers share a GPU."""
    ship: str = "auto"
    """Whether packets travel: always; never, since all machines have one disk; auto: where a machine has not."""

    def __post_init__(self) -> None:
        if self.ship not in SHIP:
            raise UsageError(f"ship={self.ship!r} must be {', '.join(SHIP)}.")
        if self.workers is not None and self.workers < 1:
            raise UsageError(f"workers={self.workers} must be at least 1.")
        if not 0 < self.gpus_per_worker <= 16:
            raise UsageError(f"gpus-per-worker={self.gpus_per_worker:g} must lie in (0, 16].")
        if "://" in self.address or (self.address not in ("auto", "local") and ":" not in self.address):
            raise UsageError(f"address={self.address!r} must be auto, local or HOST:PORT.")


@contextmanager
def workers_of(config: RayConfig, job: Job, tools: Tools) -> Iterator[Pool]:
    """Connect to a cluster, or start one, and have workers there for a model, as long as the block runs.

    job: says which model, and on what. Raises UsageError where Ray is missing, DeviceError for a cluster that is not
    there or has no GPU where one is asked for.
    """
    try:
        import ray
    except ImportError as error:
        raise UsageError("--engine ray needs Ray.", hint="Install it: pip install 'stvsr[ray]'.") from error
    if job.device.startswith("cuda:"):
        raise UsageError(f"--device {job.device} is for the local engine.", hint="Ray chooses the card: pass cuda.")
    is_ours = not ray.is_initialized()
    with ExitStack() as stack:
        if is_ours:
            stack.enter_context(redirect_stdout(_Quiet(sys.stdout)))
            stack.callback(_shut_down, ray)
            _connect(ray, config, job)
        options, count, threads = _room(ray.cluster_resources(), config, job)
        make = ray.remote(**options, max_restarts=-1, scheduling_strategy="SPREAD", concurrency_groups={"tell": 1})(
            _actor_class()
        )
        logger.info("%d workers with %s", count, ", ".join(f"{key} {value:g}" for key, value in options.items()))
        with Pool([make.remote(tools, job, threads) for _ in range(count)], stall_s=job.stall_timeout_s) as pool:
            yield pool


def _shut_down(ray: Any) -> None:
    """Leave the cluster, or end it if it was started here; a signal that comes meanwhile would only replace the reason."""
    handlers = {}
    if threading.current_thread() is threading.main_thread():
        handlers = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        ray.shutdown()
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


class _Quiet(io.TextIOBase):
    """Standard output without what Ray's own thread prints there: the pool says what happens to workers."""

    def __init__(self, inner: TextIO) -> None:
        self._inner = inner

    def write(self, text: str) -> int:
        if threading.current_thread().name.startswith("ray_"):
            if text.strip():
                logger.debug("%s", text.strip())
            return len(text)
        return self._inner.write(text)

    def flush(self) -> None:
        self._inner.flush()

    def isatty(self) -> bool:
        return self._inner.isatty()

    def fileno(self) -> int:
        return self._inner.fileno()


def _actor_class() -> type[Worker]:
    class RayWorker(Worker):
        def __init__(self, tools: Tools, job: Job, threads: int) -> None:
            import ray

            super().__init__(tools, job, node=ray.get_runtime_context().get_node_id(), threads=threads)

    return RayWorker


def _connect(ray: Any, config: RayConfig, job: Job) -> None:
    """Connect to the cluster, or start one here; signals stay this program's own."""
    quiet: dict[str, Any] = {"log_to_driver": False, "configure_logging": False, "include_dashboard": None}
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    logging.getLogger("ray").setLevel(logging.CRITICAL)
    address = None if config.address in ("auto", "local") else config.address
    if config.address == "auto" and (os.environ.get("RAY_ADDRESS") or _runs_here(ray)):
        address = "auto"
    try:
        if address is None:
            os.environ.update({name: os.environ.get(name, value) for name, value in MODEST.items()})
            cpus = max(os.cpu_count() or 1, (config.workers or 1) * _cpus(job))
            quiet |= {"include_dashboard": False, "object_store_memory": LOCAL_STORE_BYTES}
            ray.init(address="local", num_cpus=cpus, **quiet)
        else:
            ray.init(address=address, **quiet)
    except (ConnectionError, ValueError, RuntimeError) as error:
        first = (str(error).splitlines() or [""])[0]
        raise DeviceError(
            f"the Ray cluster {config.address} cannot be reached: {first}",
            hint="See `ray status`; where it asks for a token, set RAY_AUTH_MODE=token.",
        ) from error
    finally:
        try:
            for number, handler in handlers.items():
                signal.signal(number, handler)
        except ValueError:  # not in the main thread, where Ray has changed nothing either
            logger.debug("signals stay as they are")


def _runs_here(ray: Any) -> bool:
    """Whether a Ray that was started on this machine waits for work."""
    return bool(ray._private.services.find_gcs_addresses())


def _cpus(job: Job) -> int:
    """Cores of a worker that computes on them."""
    return job.threads or min(MOST_CPUS, os.cpu_count() or 1)


def _room(resources: dict[str, float], config: RayConfig, job: Job) -> tuple[dict[str, float], int, int]:
    """What a worker takes of the cluster, how many workers there are, and their compute threads; 0: as the job says."""
    gpus, cores = resources.get("GPU", 0.0), resources.get("CPU", 1.0)
    if job.device == "cuda" and not gpus and config.workers is None:
        raise DeviceError("the Ray cluster has no GPU.", hint="Use --device cpu, or name the number of --workers.")
    if job.device == "cuda" or (job.device == "auto" and gpus):
        count = config.workers or max(1, int(gpus / config.gpus_per_worker))
        return {"num_cpus": 1, "num_gpus": config.gpus_per_worker}, count, 0
    if config.workers is None:
        cpus = _cpus(job)
        return {"num_cpus": cpus, "num_gpus": 0}, max(1, int(cores) // cpus), cpus
    cpus = job.threads or max(1, min(MOST_CPUS, int(cores) // config.workers))
    return {"num_cpus": cpus, "num_gpus": 0}, config.workers, cpus
