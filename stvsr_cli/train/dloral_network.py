"""DLoRAL's networks while they are trained: the adapters still apart, a small size to train from scratch."""

import string
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from torch import Tensor, nn
from torch.nn import functional

from stvsr_cli.errors import UsageError
from stvsr_cli.models.dloral.base import INPUT_LATENTS, TEXT_STEMS, VAE_STEM
from stvsr_cli.models.dloral.model import TIMESTEP, previous
from stvsr_cli.models.dloral.published import (
    ADAPTER_ALPHA,
    BASE_FOLDER,
    CONVERTED,
    EXPERTS,
    PARTS,
    RETRIEVAL_UNUSED,
    Checkpoint,
    convert,
)
from stvsr_cli.models.dloral.retrieval import CrossFrameRetrieval
from stvsr_cli.models.layers import lora
from stvsr_cli.models.layers.checkpoint import save_tensors
from stvsr_cli.models.layers.insertion import insert_mixtures
from stvsr_cli.train.starts.flow import start_as_gradients
from stvsr_cli.train.starts.wavelet import start_as_wavelet

SMALL_UNET: dict[str, Any] = {
    "block_out_channels": (32, 64),
    "down_block_types": ("DownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "UpBlock2D"),
    "attention_head_dim": (4, 4),
    "cross_attention_dim": 32,
    "layers_per_block": 1,
    "norm_num_groups": 8,
    "in_channels": 12,
    "out_channels": 12,
    "use_linear_projection": True,
}
SMALL_VAE: dict[str, Any] = {
    "block_out_channels": (12, 36),
    "down_block_types": ("DownEncoderBlock2D",) * 2,
    "up_block_types": ("UpDecoderBlock2D",) * 2,
    "layers_per_block": 1,
    "norm_num_groups": 3,
    "latent_channels": 12,
    "scaling_factor": 2.0,
    "sample_size": 128,
    "mid_block_add_attention": False,
}
"""Starts as a wavelet transform of 44 dB, at which it stays: it needs no training."""
SMALL_RANKS = {"consistency": 8, "quality": 8}
SMALL_RETRIEVAL = {"heads": 4, "dim": 16}
TEXT_LENGTH = 16
TEXT_WIDTH = 32
ADAPTED = ("conv_in", "conv_out", "conv1", "conv2", "conv_shortcut", "conv", "proj_in", "proj_out", "to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2")  # fmt: skip
"""Layers of the UNet that the experts are on, by the ends of their names."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Shape:
    scale: int = 4
    """Spatial factor."""
    multiple_px: int = 8
    """Input sides in validation are multiples of this."""


@dataclass(frozen=True, slots=True)
class Step:
    """What one pass through the networks gives."""

    clean: Tensor
    """[N, C, h, w]: the clean latents of the frames, one after the other."""
    flow: Tensor
    """[B, K - 1, 2, h, w]: from each frame but the first to the one before, in positions of the latent."""


class DLoRALNetwork(nn.Module):
    """VAE, UNet with both experts, retrieval and text encoder. Frames are [B, K, 3, h, w] in [0, 1]."""

    def __init__(
        self, unet: UNet2DConditionModel, vae: AutoencoderKL, retrieval: CrossFrameRetrieval, text_encoder: Any,
        tokenizer: Any, ranks: dict[str, int],
    ) -> None:  # fmt: skip
        super().__init__()
        self.config, self.ranks, self.tokenizer = Shape(), ranks, tokenizer
        self.targets = adapter_targets(unet)
        for expert in EXPERTS:
            strength = ADAPTER_ALPHA / ranks[expert]
            for part in PARTS:
                adapter = f"default_{part}_{expert}"
                lora.attach(unet, self.targets[adapter], ranks[expert], adapter, strength)
        self.unet, self.vae, self.retrieval, self.text_encoder = unet, vae, retrieval, text_encoder
        self.register_buffer("tokens", tokenize(tokenizer), persistent=False)

    @property
    def stride(self) -> int:
        """Output pixels per latent position."""
        return int(2 ** (len(self.vae.config["block_out_channels"]) - 1))

    def enlarge(self, frames: Tensor) -> Tensor:
        """Return frames at the output's size, as Pillow enlarges them, in [0, 1]."""
        large = functional.interpolate(
            frames.flatten(0, 1), scale_factor=self.config.scale, mode="bicubic", antialias=True
        )
        return large.clamp(0, 1).unflatten(0, frames.shape[:2])

    def posterior(self, video: Tensor) -> DiagonalGaussianDistribution:
        """Return the autoencoder's posterior of the frames of a video [B, K, 3, H, W]: moments [B*K, C, h, w]."""
        return self.vae.encode(video.flatten(0, 1) * 2 - 1, return_dict=False)[0]

    def encode(self, video: Tensor) -> Tensor:
        """Return the scaled latents of a video, [B, K, C, h, w]."""
        latent: Tensor = self.posterior(video).mode() * self.vae.config["scaling_factor"]
        return latent.unflatten(0, video.shape[:2])

    def decode(self, latent: Tensor) -> Tensor:
        """Return the frames [N, 3, H, W] of scaled latents [N, C, h, w], in [0, 1] but for what is out of range."""
        frames: Tensor = self.vae.decode(latent / self.vae.config["scaling_factor"], return_dict=False)[0]
        return frames * 0.5 + 0.5

    def reduce(self, video: Tensor) -> Tensor:
        """Return an enlarged video [B, K, 3, H, W] at the latents' size, in [-1, 1]."""
        size = [side // self.stride for side in video.shape[-2:]]
        return functional.interpolate(video.flatten(0, 1) * 2 - 1, size=size, mode="bicubic").unflatten(
            0, video.shape[:2]
        )

    def flow(self, frames: Tensor) -> Tensor:
        """Return the flow of reduced frames [B, K, 3, h, w] but the first to the one before, [B, K - 1, 2, h, w]."""
        flow: Tensor = self.retrieval.flow(frames[:, 1:].flatten(0, 1), frames[:, :-1].flatten(0, 1))
        return flow.unflatten(0, (frames.shape[0], -1))

    def restore(self, video: Tensor, *, paired: bool = True) -> Step:
        """Return the clean latents of an enlarged video [B, K, 3, H, W], each frame with the one before it.

        paired: if not, zeros stand for its predecessor, nothing is retrieved, and there is no flow.
        """
        with torch.no_grad():
            latent = self.encode(video)
        frames, current = self.reduce(video), latent.flatten(0, 1)
        if paired:
            flow = self.flow(frames)
            parts = (frames, previous(frames), latent, previous(latent))
            aligned, fused = self.retrieval(*(part.flatten(0, 1) for part in parts))
        else:
            flow = frames.new_zeros(video.shape[0], 0, 2, *latent.shape[-2:])
            aligned, fused = torch.zeros_like(current), current
        timestep = torch.tensor([TIMESTEP], device=video.device)
        prediction = self.unet(
            torch.cat([aligned, fused], 1), timestep, encoder_hidden_states=self.prompt(len(fused)), return_dict=False
        )[0]
        return Step(fused - prediction, flow)

    def prompt(self, count: int) -> Tensor:
        """Return the embedding of the empty prompt, [count, L, D]."""
        with torch.no_grad():
            embedding: Tensor = self.text_encoder(self.tokens)[0]
        return embedding.expand(count, -1, -1)

    def forward(self, frames: Tensor, fps_factor: int) -> tuple[Tensor, Tensor]:
        """Return the output frames and the enlarged ones; frames between are mixtures, enlarged and restored as well."""
        video = self.enlarge(insert_mixtures(frames, fps_factor))
        return self.decode(self.restore(video).clean).unflatten(0, video.shape[:2]), video


def adapter_targets(unet: nn.Module) -> dict[str, list[str]]:
    """Return the layers of each of the six adapters, by their whole names."""
    targets: dict[str, list[str]] = {f"default_{part}_{expert}": [] for expert in EXPERTS for part in PARTS}
    for name in lora.adapted_layers(unet, ADAPTED):
        if name.startswith(("down_blocks.", "conv_in")):
            part = "encoder"
        else:
            part = "decoder" if name.startswith(("up_blocks.", "conv_out")) else "others"
        for expert in EXPERTS:
            targets[f"default_{part}_{expert}"].append(name)
    return targets


def new_network() -> DLoRALNetwork:
    """Return the small network, untrained: its retrieval adds nothing, its UNet predicts nothing and does not see frames before."""
    settings = SMALL_UNET | {"in_channels": INPUT_LATENTS * SMALL_UNET["out_channels"]}
    unet = UNet2DConditionModel(**settings)
    with torch.no_grad():  # as where a base of single frames is widened
        unet.conv_in.weight[:, : SMALL_UNET["out_channels"]] = 0
    retrieval = CrossFrameRetrieval(SMALL_UNET["out_channels"], **SMALL_RETRIEVAL)
    vae = AutoencoderKL(**SMALL_VAE)
    start_as_wavelet(vae)
    start_as_gradients(retrieval.flow)
    for module, ends in ((unet, ("conv_out",)), (retrieval.attention, ("proj_out",))):
        for name in lora.adapted_layers(module, ends):
            for parameter in module.get_submodule(name).parameters():
                nn.init.zeros_(parameter)
    encoder, tokenizer = _text_encoder()
    return DLoRALNetwork(unet, vae, retrieval, encoder, tokenizer, SMALL_RANKS)


def _text_encoder() -> tuple[Any, Any]:
    """Return a small text encoder with random weights, and a tokenizer of single characters."""
    try:
        from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer
    except ImportError as error:
        raise UsageError("training dloral needs transformers.", hint="pip install 'stvsr[dloral]'.") from error
    letters = [c for c in string.printable if not c.isspace()]
    words = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{c}</w>" for c in letters)]
    tokenizer = CLIPTokenizer(
        vocab={word: index for index, word in enumerate(words)}, merges=[], model_max_length=TEXT_LENGTH
    )
    config = CLIPTextConfig(
        vocab_size=len(words), hidden_size=TEXT_WIDTH, intermediate_size=64, num_hidden_layers=1,
        num_attention_heads=2, max_position_embeddings=TEXT_LENGTH, projection_dim=TEXT_WIDTH,
        bos_token_id=0, eos_token_id=1, pad_token_id=1,
    )  # fmt: skip
    return CLIPTextModel(config).eval(), tokenizer


def tokenize(tokenizer: Any, prompt: str = "") -> Tensor:
    """Return a prompt's tokens, [1, L]."""
    length = tokenizer.model_max_length
    tokens: Tensor = tokenizer(
        prompt, max_length=length, padding="max_length", truncation=True, return_tensors="pt"
    ).input_ids
    return tokens


def export(network: DLoRALNetwork, state: dict[str, Tensor], folder: Path) -> None:
    """Write a folder that `models.dloral.load` reads: the converted checkpoint, and the base beside it."""
    tensors = {name: tensor.detach().cpu().half() for name, tensor in state.items()}

    def of(part: str) -> dict[str, Tensor]:
        return {n.removeprefix(part): t.contiguous() for n, t in tensors.items() if n.startswith(part)}

    adapted = {layer for layers in network.targets.values() for layer in layers}
    unet = {}
    for name, tensor in of("unet.").items():
        layer, _, leaf = name.rpartition(".")
        unet[f"{layer}{lora.BASE_LAYER}{leaf}" if layer in adapted else name] = tensor
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / CONVERTED
    retrieval = {n: t for n, t in of("retrieval.").items() if not n.startswith(RETRIEVAL_UNUSED)}
    convert(
        Checkpoint(path=target, targets=network.targets, ranks=network.ranks, unet=unet, retrieval=retrieval), target
    )
    base = folder / BASE_FOLDER
    settings = {n: v for n, v in network.unet.config.items() if not n.startswith("_")}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        UNet2DConditionModel.from_config(settings | {"in_channels": settings["out_channels"]}).save_config(
            base / "unet"
        )
    network.vae.save_config(base / "vae")
    save_tensors(of("vae."), base / "vae", VAE_STEM)
    network.text_encoder.config.save_pretrained(base / "text_encoder")
    save_tensors(of("text_encoder."), base / "text_encoder", TEXT_STEMS[0])
    network.tokenizer.save_pretrained(base / "tokenizer")
