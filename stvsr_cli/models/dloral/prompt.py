"""A prompt's embedding by the base model's CLIP text encoder."""

from pathlib import Path

import torch
from torch import Tensor

from stvsr_cli.errors import ModelError
from stvsr_cli.models.layers.checkpoint import load_strict, read_config, read_tensors

WRAPPER = "text_model."
"""Prefix of every name in files of before transformers 5, and of every parameter in its modules."""
UNUSED = ("embeddings.position_ids",)
"""In old files: a buffer that counts from 0."""


def embed_prompt(prompt: str, tokenizer_folder: Path, encoder_file: Path) -> Tensor:
    """Return the embedding of a prompt, float32 [1, L, D] on the CPU; the encoder is not kept.

    encoder_file: the weights, beside their `config.json`. Raises ModelError if transformers is not installed, a file
    is absent, or a tensor is missing, unexpected or misshapen.
    """
    try:
        from transformers import AutoTokenizer, CLIPTextConfig, CLIPTextModel
    except ImportError as error:
        raise ModelError(
            "dloral needs the package transformers to read its prompt.", hint="Run: pip install 'stvsr[dloral]'"
        ) from error
    if not tokenizer_folder.is_dir():
        raise ModelError(f"No tokenizer at {tokenizer_folder}.", hint="The base model is not a complete download.")
    try:
        tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise ModelError(f"The tokenizer in {tokenizer_folder} cannot be read: {error}") from error
    config = CLIPTextConfig.from_dict(read_config(encoder_file.parent / "config.json"))
    with torch.device("meta"):
        encoder = CLIPTextModel(config).eval().requires_grad_(False)
    wrapper = WRAPPER if any(name.startswith(WRAPPER) for name in encoder.state_dict()) else ""
    load_strict(
        encoder,
        read_tensors(encoder_file),
        what=str(encoder_file),
        ignore=lambda name: name.removeprefix(WRAPPER) in UNUSED,
        renames=((rf"^(?:{WRAPPER})?", wrapper),),
        dtype=torch.float32,
    )
    _fill_positions(encoder)
    tokens = tokenizer(
        prompt, max_length=tokenizer.model_max_length, padding="max_length", truncation=True, return_tensors="pt"
    ).input_ids
    with torch.inference_mode():
        embedding: Tensor = encoder(tokens)[0]
    return embedding.clone()


def _fill_positions(encoder: torch.nn.Module) -> None:
    """Put real values in the one buffer that no file holds."""
    for module in encoder.modules():
        positions = getattr(module, "position_ids", None)
        if isinstance(positions, Tensor):
            module.register_buffer("position_ids", torch.arange(positions.shape[-1])[None], persistent=False)
