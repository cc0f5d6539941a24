"""YUV4MPEG2 in a file, written under a temporary name, then renamed."""

import logging
from pathlib import Path
from types import TracebackType

from stvsr_cli.errors import OutputError
from stvsr_cli.media.pipes import Y4mOutput
from stvsr_cli.media.read.probe import VideoInfo
from stvsr_cli.media.write.mux import OutputSpec, check_target, existing
from stvsr_cli.runtime.parts import part_path, publish, remove_orphans

logger = logging.getLogger(__name__)


class Y4mFile(Y4mOutput):
    """Writes a file with pictures and nothing else; leaves it whole or not at all. Raises OutputError."""

    def __init__(self, target: Path, source: VideoInfo, spec: OutputSpec, *, overwrite: bool) -> None:
        check_target(target, source.path, overwrite=overwrite)
        remove_orphans(target)
        self._target, self._part, self._overwrite = target, part_path(target), overwrite
        left = sorted({stream.kind for stream in source.streams})
        if left:
            logger.warning("%s holds pictures only: %s left out", target, ", ".join(left))
        try:
            self._file = open(self._part, "wb", buffering=0)
        except OSError as error:
            raise OutputError(f"{target} cannot be written: {error.strerror}.", hint="Check the folder.") from error
        super().__init__(self._file.fileno(), source, spec, name=str(target))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            super().__exit__(kind, error, trace)
            if error is None:
                publish(self._part, self._target, overwrite=self._overwrite)
        except FileExistsError as failure:
            raise existing(self._target) from failure
        except OSError as failure:
            raise OutputError(f"{self._target} cannot be finished: {failure.strerror}.") from failure
        finally:
            self._file.close()
            self._part.unlink(missing_ok=True)
