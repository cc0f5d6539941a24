"""The options of `stvsr upscale`, by group."""

from pathlib import Path
from typing import Annotated

import typer

from stvsr_cli.cli.complete import among, codecs, devices, models, pixel_formats, presets
from stvsr_cli.cli.progress import KINDS
from stvsr_cli.job import job as jobs
from stvsr_cli.job.job import Job
from stvsr_cli.job.quality import Word
from stvsr_cli.models import entry
from stvsr_cli.models.fit import asked

DEFAULT = Job(input=Path("-"), output=Path("-"))
"""Its fields are the options' defaults."""
SIZE, MODEL, ENCODING, RUN = "Size and time", "Model and device", "Encoding", "Run"
BATCH, CLUSTER = "Several files", "Many GPUs"
MEMORY, SINGLE = "Memory and speed (advanced)", "Options of single models (advanced)"

Paths = Annotated[
    list[str],
    typer.Argument(
        help="Video to read, and video to write; its suffix chooses the container. Or several videos, folders or "
        "patterns, and a folder. - is standard input or output; frames/%05d.png, or a folder, stands for pictures.",
        metavar="INPUT... OUTPUT",
    ),
]

Scale = Annotated[
    str | None,
    typer.Option(help=f"Size factor in [1, {jobs.MOST_SCALE}], such as 1.5; default 4.", rich_help_panel=SIZE),
]
Width = Annotated[
    int | None, typer.Option(min=2, help="Output width in pixels; keeps the aspect.", rich_help_panel=SIZE)
]
Height = Annotated[
    int | None, typer.Option(min=2, help="Output height in pixels; keeps the aspect.", rich_help_panel=SIZE)
]
FitSize = Annotated[
    str | None,
    typer.Option("--fit", metavar="WxH", help="Width and height to fit, such as 3840x2160.", rich_help_panel=SIZE),
]
FitMode = Annotated[
    jobs.FitMode,
    typer.Option(help="inside; pad: with black bars to the full size; crop: sides cut off.", rich_help_panel=SIZE),
]
CropBars = Annotated[
    jobs.CropBars,
    typer.Option(
        help="Black bars. auto: left out of the model and put back; remove: not put back; off: taken for picture.",
        rich_help_panel=SIZE,
    ),
]
FpsFactor = Annotated[
    str | None,
    typer.Option(
        metavar="N",
        help="Frames for each of INPUT's, if --fps does not say; default 2, or as --slow-motion needs. 1: size only.",
        rich_help_panel=SIZE,
    ),
]
Fps = Annotated[
    str | None,
    typer.Option(
        "--fps",
        metavar="RATE",
        help="Frame rate of OUTPUT: 60, 59.94, 60000/1001, constant; or 2x, 2.5x, 0.5x: as variable as INPUT's. For "
        "pictures without --input-fps: their rate.",
        rich_help_panel=SIZE,
    ),
]
InputFps = Annotated[
    str | None,
    typer.Option("--input-fps", metavar="RATE", help="Rate of pictures that are read.", rich_help_panel=SIZE),
]
SlowMotion = Annotated[
    str,
    typer.Option(
        metavar="N", help="This many times slower, at the frame rate of INPUT or of --fps.", rich_help_panel=SIZE
    ),
]
SlowSound = Annotated[
    jobs.SlowSound,
    typer.Option(help="Sound in slow motion. stretch: at its own pitch; drop: none.", rich_help_panel=SIZE),
]
Cuts = Annotated[
    jobs.Cuts,
    typer.Option(help="hold: no frame is made across a cut; ignore: the file is one shot.", rich_help_panel=SIZE),
]
Start = Annotated[
    str | None,
    typer.Option(metavar="TIME", help="Start at this time: seconds, MM:SS or HH:MM:SS.", rich_help_panel=SIZE),
]
End = Annotated[str | None, typer.Option(metavar="TIME", help="Stop at this time.", rich_help_panel=SIZE)]
VideoStream = Annotated[
    int | None, typer.Option(min=0, help="Which of several video streams, from 0.", rich_help_panel=SIZE)
]

Deinterlace = Annotated[
    jobs.Deinterlace,
    typer.Option(help="auto: where fields are found; on: everything; off: nothing.", rich_help_panel=SIZE),
]

Repeats = Annotated[
    jobs.Repeats,
    typer.Option(
        help="Frames that repeat the one before, as in animation on twos. smooth: they are made anew, so that motion "
        "is even; auto: where motion is uneven throughout.",
        rich_help_panel=SIZE,
    ),
]

Model = Annotated[
    str, typer.Option(help="Model; see `stvsr models list`.", autocompletion=models, rich_help_panel=MODEL)
]
Weights = Annotated[
    Path | None, typer.Option(help="Weights, a file or folder, instead of the model's own.", rich_help_panel=MODEL)
]
Device = Annotated[
    str, typer.Option(help="auto, cpu, cuda, cuda:N or mps (Apple).", autocompletion=devices, rich_help_panel=MODEL)
]
Precision = Annotated[
    jobs.Precision, typer.Option(help="What the model computes in; int8 is for CPUs.", rich_help_panel=MEMORY)
]
Quality = Annotated[
    Word | None,
    typer.Option(
        help="Model, precision, window, --crf and --preset in one word; each can still be given. Default: good.",
        rich_help_panel=MODEL,
    ),
]
Window = Annotated[
    int | None,
    typer.Option(min=2, help="Source frames per model call; by default as memory allows.", rich_help_panel=MEMORY),
]
Overlap = Annotated[int | None, typer.Option(min=1, help="Source frames two windows share.", rich_help_panel=MEMORY)]
Batch = Annotated[str, typer.Option(help="auto, or windows and tiles per model call.", rich_help_panel=MEMORY)]
TilePx = Annotated[
    str, typer.Option("--tile", help="auto, off, or a tile's side in input pixels.", rich_help_panel=MEMORY)
]
Seed = Annotated[int, typer.Option(help="Seed, for models that sample.", rich_help_panel=SINGLE)]
Detail = Annotated[
    float | None,
    typer.Option(min=0, max=1, help="From 0, faithful, to 1, detailed (compact, dloral).", rich_help_panel=MODEL),
]
Restore = Annotated[
    float | None,
    typer.Option(
        min=0,
        max=1,
        help="How strongly noise, coding and blur of INPUT are worked against; default: as a look at it says (compact).",
        rich_help_panel=MODEL,
    ),
]
Prompt = Annotated[str | None, typer.Option(help="What the video shows (dloral).", rich_help_panel=SINGLE)]
ColorFix = Annotated[
    entry.ColorFix | None, typer.Option(help="Whose colours the result takes (dloral).", rich_help_panel=SINGLE)
]
Posterior = Annotated[
    entry.Posterior | None,
    typer.Option(help="Which latent is taken (osdenhancer, dloral, diffst).", rich_help_panel=SINGLE),
]
Base = Annotated[
    Path | None,
    typer.Option(help="Folder of the base model, if not beside the weights (dloral).", rich_help_panel=SINGLE),
]

VaeTile = Annotated[
    str,
    typer.Option(
        "--vae-tile",
        help="auto, off, or the side of the autoencoder's tiles in output pixels (osdenhancer, dloral, diffst).",
        rich_help_panel=SINGLE,
    ),
]
Aggregation = Annotated[
    bool,
    typer.Option(
        "--aggregation/--no-aggregation", help="In-between frames from context (diffst).", rich_help_panel=SINGLE
    ),
]
Guidance = Annotated[
    bool, typer.Option("--guidance/--no-guidance", help="Guide by the whole video (diffst).", rich_help_panel=SINGLE)
]
Offload = Annotated[
    asked.Offload,
    typer.Option(
        help="model or sequential: networks, or their blocks, wait in main memory (large models, GPU).",
        rich_help_panel=MEMORY,
    ),
]
Quantize = Annotated[
    asked.Quantize,
    typer.Option(help="The denoiser's weights, by torchao (large models).", rich_help_panel=MEMORY),
]
Compile = Annotated[
    jobs.Compile,
    typer.Option(
        help="auto: the model is compiled for long runs on a GPU, and uses OpenVINO on a CPU; on; off.",
        rich_help_panel=MEMORY,
    ),
]
Attention = Annotated[
    asked.Attention,
    typer.Option(help="sdpa; auto: flash where installed; flash or sage (large models, GPU).", rich_help_panel=MEMORY),
]

Codec = Annotated[
    str,
    typer.Option(
        help="FFmpeg's name of the video encoder; auto: by OUTPUT's suffix.",
        autocompletion=codecs,
        rich_help_panel=ENCODING,
    ),
]
Crf = Annotated[int | None, typer.Option(min=0, max=63, help="Quality; lower is better.", rich_help_panel=ENCODING)]
Preset = Annotated[
    str | None, typer.Option(help="The encoder's speed preset.", autocompletion=presets, rich_help_panel=ENCODING)
]
PixFmt = Annotated[
    str | None,
    typer.Option(help="Pixel format, such as yuv420p10le.", autocompletion=pixel_formats, rich_help_panel=ENCODING),
]
EncoderOption = Annotated[
    list[str] | None,
    typer.Option(metavar="KEY=VALUE", help="Option for the encoder; may be repeated.", rich_help_panel=ENCODING),
]

Recursive = Annotated[
    bool, typer.Option("--recursive", help="Look into folders within folders.", rich_help_panel=BATCH)
]
Ext = Annotated[str | None, typer.Option(metavar="EXT,EXT", help="Suffixes to take in folders.", rich_help_panel=BATCH)]
NameTemplate = Annotated[
    str | None,
    typer.Option(
        metavar="TEXT",
        help="Names of outputs, such as {stem}_x4{suffix}; also {folder}, {ext} (the source's suffix), {scale}, {fps}, "
        "{fps_factor}, {model}.",
        rich_help_panel=BATCH,
    ),
]
SkipExisting = Annotated[
    bool,
    typer.Option("--skip-existing", help="Leave outputs that are there and complete.", rich_help_panel=BATCH),
]
Jobs = Annotated[int, typer.Option(min=1, help="Videos at once; they share the model.", rich_help_panel=BATCH)]
FailFast = Annotated[
    bool,
    typer.Option("--fail-fast/--keep-going", help="Start no further file once one has failed.", rich_help_panel=BATCH),
]
ReportPath = Annotated[
    Path | None,
    typer.Option("--report", help="JSON file to write: what became of each file.", rich_help_panel=BATCH),
]

Format = Annotated[
    jobs.Format | None,
    typer.Option(
        "--format",
        help="Of standard output: matroska (default), nut, mpegts or y4m; of pictures in a folder: png or jpg.",
        rich_help_panel=ENCODING,
    ),
]
Resume = Annotated[
    jobs.Resume,
    typer.Option(
        help="auto: go on where an earlier run ended; force: start over; never: keep nothing of a run that ends early.",
        rich_help_panel=RUN,
    ),
]
SegmentFrames = Annotated[
    int,
    typer.Option(min=1, help="Keep what is made for --resume after this many output frames.", rich_help_panel=RUN),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace OUTPUT if it exists.", rich_help_panel=RUN)]
KeepRecord = Annotated[
    bool,
    typer.Option(
        "--record/--no-record",
        help="Say in OUTPUT's metadata how it was made: version, model, weights, options.",
        rich_help_panel=RUN,
    ),
]
Like = Annotated[
    Path | None,
    typer.Option(
        "--like",
        metavar="FILE",
        help="Take the options that FILE was made with, where no other is given; see `stvsr info`.",
        rich_help_panel=RUN,
    ),
]
AllowUrl = Annotated[
    bool, typer.Option("--allow-url", help="Allow an INPUT that is not a local file.", rich_help_panel=RUN)
]
MaxPixels = Annotated[
    int, typer.Option("--max-pixels", min=1, help="Refuse an INPUT with more pixels in a frame.", rich_help_panel=RUN)
]
StallTimeout = Annotated[
    float | None,
    typer.Option(
        metavar="SECONDS",
        help="Stop when a stage makes no progress for this long, so that the same command can continue; 0: never. Default: half an hour, but "
        "never for the model and for pipes.",
        rich_help_panel=RUN,
    ),
]
SpaceCheck = Annotated[
    bool,
    typer.Option("--space-check/--no-space-check", help="Start only if there is room for OUTPUT.", rich_help_panel=RUN),
]
Nice = Annotated[
    int, typer.Option("--nice", min=0, max=19, help="Give way to other programs: 19 the most.", rich_help_panel=RUN)
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Check everything, print the plan, write nothing.", rich_help_panel=RUN)
]
Engine = Annotated[
    str,
    typer.Option(help="local, or ray: many GPUs, many machines.", rich_help_panel=CLUSTER),
]
Address = Annotated[
    str,
    typer.Option(
        metavar="auto|local|HOST:PORT",
        help="Of the Ray cluster; local starts Ray here, auto does so unless one runs here.",
        rich_help_panel=CLUSTER,
    ),
]
WorkerCount = Annotated[
    int | None, typer.Option("--workers", min=1, help="Default: one for each GPU.", rich_help_panel=CLUSTER)
]
GpusPerWorker = Annotated[
    float, typer.Option("--gpus-per-worker", help="0.5: two share a GPU.", rich_help_panel=CLUSTER)
]
Ship = Annotated[
    str,
    typer.Option(
        help="Send packets to workers: always; never, where all machines have one disk; auto: where they have not.",
        rich_help_panel=CLUSTER,
    ),
]
Threads = Annotated[
    int,
    typer.Option(
        min=0, help="Threads of the decoder, the model and the encoder, each; 0: one a core.", rich_help_panel=MEMORY
    ),
]
ProgressKind = Annotated[
    str, typer.Option("--progress", help=f"{', '.join(KINDS)}.", autocompletion=among(*KINDS), rich_help_panel=RUN)
]
Verbose = Annotated[
    int,
    typer.Option("--verbose", "-v", count=True, help="Show more detail; -vv shows everything.", rich_help_panel=RUN),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show errors only.", rich_help_panel=RUN)]
Traceback = Annotated[bool, typer.Option("--traceback", help="Show where an error came from.", rich_help_panel=RUN)]
