"""A video looked over by the cores of a cluster that no worker uses, as Ray's tasks."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from stvsr_cli.durable.manifest import file_identity
from stvsr_cli.media.read.clip import Clip, ClipFile, Part
from stvsr_cli.media.read.glances import Chunk, Glance, look_over
from stvsr_cli.media.read.moments import Differs
from stvsr_cli.media.read.probe import VideoInfo

FEWEST_CORES = 2
"""With fewer to spare, the program looks for itself."""


def look(
    info: VideoInfo, chunk: Chunk, identity: dict[str, str], clip: Clip | None = None, head: tuple[Part, ...] = ()
) -> list[Glance] | str:
    """Look over a chunk, of the file here if it is the one meant, or of what was sent. Returns why not as text."""
    try:
        if clip is None and file_identity(info.path) != identity:
            return "another file is there"
        file = None if clip is None else ClipFile(clip, head)
        return look_over(info, chunk, threads=1, file=file)
    except (Differs, OSError) as reason:
        return str(reason)


def looks(
    info: VideoInfo, chunks: Sequence[Chunk], identity: dict[str, str], send: Callable[[Chunk], tuple[Any, ...]]
) -> Iterator[list[Glance]]:
    """Yield what is found of each chunk, in order; as many are in work as there are cores to spare.

    send: what the task is to read, by Ray's references; nothing where it has the file. Raises Differs where a chunk
    cannot be looked over, or there are no cores.
    """
    import ray

    cores = int(ray.available_resources().get("CPU", 0))
    if cores < FEWEST_CORES:
        raise Differs("no cores to spare")
    remote, known = ray.remote(num_cpus=1)(look), ray.put(info)
    waiting: deque[Any] = deque()
    rest = iter(chunks)
    try:
        while True:
            while len(waiting) < cores and (chunk := next(rest, None)) is not None:
                waiting.append(remote.remote(known, chunk, identity, *send(chunk)))
            if not waiting:
                return
            try:
                found = ray.get(waiting.popleft())
            except ray.exceptions.RayError as error:
                raise Differs(str(error)) from error
            if isinstance(found, str):
                raise Differs(found)
            yield found
    finally:
        for reference in waiting:
            ray.cancel(reference)
