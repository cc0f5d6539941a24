"""The model of a job, and the job's plan on it."""

import time
from dataclasses import replace

import torch

from stvsr_cli.durable.manifest import fingerprint
from stvsr_cli.job.job import Job
from stvsr_cli.job.plan import Plan, make_plan
from stvsr_cli.job.record import record_of
from stvsr_cli.job.report import Loaded
from stvsr_cli.media.read.probe import VideoInfo
from stvsr_cli.models.catalogue import find_model
from stvsr_cli.models.fit.compiled import compile_regions, plain_regions, wants_compile
from stvsr_cli.models.fit.device import auto_batch, pick_device, pick_precision, pick_threads, usable_bytes
from stvsr_cli.models.fit.fit import offload_on, waiting_bytes
from stvsr_cli.models.fit.openvino import use_openvino
from stvsr_cli.models.registry import check_options, load_model
from stvsr_cli.weights.places import find_complete, find_weights, hashes, verify


def load(job: Job) -> Loaded:
    """Load the model of a job. Raises ModelError, DeviceError or UsageError."""
    begin = time.perf_counter()
    entry = find_model(job.model)
    check_options(entry, job.options, job.dials, job.fit)
    device = pick_device(job.device)
    dtype = pick_precision(job.precision, device, entry.half)
    torch.set_num_threads(pick_threads(job.threads))
    weights = job.weights
    if weights is None and entry.has_weights:
        weights = find_weights(entry.name, entry.needs)
    if weights is not None and weights.is_dir():
        verify(weights)  # if it lists checksums
    between = None
    if entry.spatial_only and job.makes_frames:
        between = find_complete("compact", find_model("compact").needs)
        if between is not None:
            verify(between)
    model = load_model(
        entry, weights, device, dtype, options=job.options, dials=job.dials, between=between, fit=job.fit
    )
    computes_in = use_openvino(model, device, dtype, job.precision, wanted=job.compile == "auto")
    known = ""
    if weights is not None and (job.record or job.resume != "never"):
        known = fingerprint([path for path in (weights, between) if path is not None], hashes().of)
    return Loaded(model, device, dtype, time.perf_counter() - begin, known, computes_in)


def apply_compile(job: Job, plan: Plan, loaded: Loaded) -> None:
    """Compile the model's regions if the job wants that for a run as long as this, and else undo it."""
    num_px = None if plan.num_frames is None else plan.num_frames * plan.width * plan.height
    if wants_compile(job.compile, loaded.device, num_px):
        compile_regions(loaded.model)
    else:
        plain_regions(loaded.model)


def plan_on(job: Job, info: VideoInfo, loaded: Loaded) -> Plan:
    """Plan a job on its input, for the model and the device that it is on. Raises UsageError if it cannot be done."""
    offload = offload_on(job.fit, loaded.device)
    waiting = waiting_bytes(loaded.model, job.fit, loaded.device)
    room = usable_bytes(loaded.device, waiting)
    plan = make_plan(job, info, loaded.model, room, offload=offload, waiting=waiting)
    batch = job.batch or auto_batch(plan.memory, loaded.device, waiting)
    record = record_of(job, loaded, tile_px=plan.tile.size_px, window=plan.windows.size) if job.record else None
    return replace(plan, batch=batch, spec=replace(plan.spec, record=record))
