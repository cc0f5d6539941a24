"""From a path to an open file: local files only, unless asked, and nothing that names other files."""

import os
import re
import stat
from io import RawIOBase
from pathlib import Path

import av
import av.error

from stvsr_cli.errors import InputError
from stvsr_cli.media.pyav import open_lenient

URL = re.compile(r"^[a-zA-Z][a-zA-Z0-9+.-]*:(//)?[^\\]")
COLLAPSED = re.compile(r"^([a-zA-Z][a-zA-Z0-9+.-]*):/(?!/)")
"""A URL that has been a `Path`, which makes one slash of two."""
FORMATS_READ = (
    "mov,matroska,webm,avi,mpegts,mpeg,mpegvideo,m4v,flv,live_flv,kux,asf,asf_o,rm,ogg,nut,mxf,gxf,dv,wtv,nuv,nsv,swf,ivf,obu,"
    "av1,h261,h263,h264,hevc,vvc,evc,vc1,vc1test,dirac,cavsvideo,avs2,avs3,dnxhd,ingenient,mjpeg,mjpeg_2000,gif,apng,"
    "yuv4mpegpipe,lvf,ty,vivo,pva,dhav,cine,mlv,moflex,amv,bink,smk,flic,4xm,film_cpk,roq,thp,aac,ac3,eac3,aiff,amr,caf,"
    "dts,truehd,mlp,flac,mp3,wav,w64,au,ape,wv,tta"
)
"""FFmpeg's names of the formats that are opened: what holds its own media. A playlist, a script or a description of
a session names other files and machines; text is drawn as a video; none of them is opened."""
LOCAL_PROTOCOLS = "file"


def check_local(path: Path | str) -> Path:
    """Return the path of a regular local file. Raises InputError for anything else."""
    text = str(path)
    local = Path(path)
    if is_url(path):
        raise InputError(f"{text} is not a local file.", hint="Download it first, or pass --allow-url.")
    try:
        mode = local.stat().st_mode
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{text}: {reason}.", hint="Check the path.") from error
    if stat.S_ISDIR(mode):
        raise InputError(f"{text} is a folder.", hint="Name a video file.")
    if stat.S_ISFIFO(mode):
        raise InputError(f"{text} is a pipe, which can be read only once.", hint="Write it to a file first.")
    if not stat.S_ISREG(mode):
        raise InputError(f"{text} is a device, not a file.", hint="Name a video file.")
    if local.stat().st_size == 0:
        raise InputError(f"{text} is empty.", hint="Check that it was copied completely.")
    return local


def is_url(path: Path | str) -> bool:
    """Whether a path names a protocol, and no file of that name exists."""
    return bool(URL.match(str(path))) and not os.path.lexists(path)


def location(path: Path | str, *, remote: bool = False) -> str:
    """What FFmpeg is to open: an absolute path, so that a colon in a name stands for no protocol, or the URL."""
    return COLLAPSED.sub(r"\1://", str(path)) if remote else os.path.abspath(path)


def open_input(
    path: Path | str, *, remote: bool = False, file: RawIOBase | None = None
) -> "av.container.InputContainer":
    """Open a file for reading. Raises InputError if it is no media file.

    Only `FORMATS_READ` are opened, and of local files only through the file system, so that what a file says can
    pull in nothing else. remote: `path` is a URL. file: what to read in place of the file there.
    """
    options = {"format_whitelist": FORMATS_READ}
    if not remote:
        options["protocol_whitelist"] = LOCAL_PROTOCOLS
    try:
        return open_lenient(file or location(path, remote=remote), options)
    except (av.error.FFmpegError, OSError, ValueError) as error:
        refused = isinstance(error, av.error.ArgumentError)
        reason = "" if refused else f": {getattr(error, 'strerror', None) or error}"
        hint = "Playlists, scripts and text are refused; name the video itself." if refused else "Check that it plays."
        raise InputError(f"{path} cannot be read as a video{reason}.", hint=hint) from error
