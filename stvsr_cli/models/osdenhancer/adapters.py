"""The temporal expert: low-rank adapters on every projection of a CogVideoX block, gated by the motion residual."""

from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import Attention
from diffusers.models.embeddings import apply_rotary_emb
from diffusers.models.transformers.cogvideox_transformer_3d import CogVideoXBlock
from torch import Tensor, nn

ADAPTER_RANK = 128
"""Rank of the published adapters; their alpha is the same, so their strength is 1."""


class GatedAdapter(nn.Module):
    """A low-rank update of a linear layer, multiplied elementwise by a gate; starts at zero."""

    def __init__(self, in_features: int, out_features: int, rank: int) -> None:
        super().__init__()
        self.lora_A = nn.Linear(in_features, rank, bias=False)
        self.lora_B = nn.Linear(rank, out_features, bias=False)
        nn.init.zeros_(self.lora_B.weight)

    def forward(self, tokens: Tensor, gate: Tensor) -> Tensor:
        """Return the update of [B, L, D_in] tokens under a gate [B, L, D_out]."""
        update: Tensor = self.lora_B(self.lora_A(tokens)) * gate
        return update


def project(linear: nn.Module, adapter: GatedAdapter, tokens: Tensor, gate: Tensor) -> Tensor:
    """Return `linear(tokens)` plus the adapter's update of the video tokens, which are the last `gate.shape[1]`.

    tokens: [B, text + video, D_in]. gate: [B, video, D_out]. Returns [B, text + video, D_out].
    """
    num_text = tokens.shape[1] - gate.shape[1]
    update = adapter(tokens[:, num_text:], gate)
    projected: Tensor = linear(tokens)
    if not projected.requires_grad and not update.requires_grad:
        projected[:, num_text:] += update
        return projected
    return projected + F.pad(update, (0, 0, num_text, 0))


class GatedAttentionProcessor:
    """Joint attention over text and video tokens, as CogVideoX's own, with gated adapters on all four projections.

    The adapters come before the normalisation of queries and keys and before the rotary embedding.
    """

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        gate: Tensor,
        image_rotary_emb: tuple[Tensor, Tensor] | None = None,
        attention_mask: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return the attended video tokens [B, video, D] and text tokens [B, text, D]."""
        num_text = encoder_hidden_states.shape[1]
        tokens = torch.cat([encoder_hidden_states, hidden_states], dim=1)
        query, key, value = (  # [B, heads, text + video, D / heads]
            project(linear, adapter, tokens, gate).view(*tokens.shape[:2], attn.heads, -1).transpose(1, 2)
            for linear, adapter in (
                (attn.to_q, attn.to_q_TC_lora),
                (attn.to_k, attn.to_k_TC_lora),
                (attn.to_v, attn.to_v_TC_lora),
            )
        )
        query = query if attn.norm_q is None else attn.norm_q(query)
        key = key if attn.norm_k is None else attn.norm_k(key)
        if image_rotary_emb is not None:
            query, key = (
                torch.cat([part[:, :, :num_text], apply_rotary_emb(part[:, :, num_text:], image_rotary_emb)], dim=2)
                for part in (query, key)
            )
        attended = (
            F.scaled_dot_product_attention(query, key, value, attn_mask=attention_mask).transpose(1, 2).flatten(2)
        )
        attended = project(attn.to_out[0], attn.to_out_TC_lora, attended, gate)
        attended = attn.to_out[1](attended)
        return attended[:, num_text:], attended[:, :num_text]


class GatedBlock(CogVideoXBlock):  # type: ignore[misc]
    """A CogVideoX block with the temporal expert's adapters in its attention and its feed-forward network."""

    def __init__(self, *, dim: int, rank: int = ADAPTER_RANK, **kwargs: Any) -> None:
        super().__init__(dim=dim, **kwargs)
        attention, (first, _, second) = self.attn1, self.ff.net[:3]
        for name in ("to_q", "to_k", "to_v"):
            linear = getattr(attention, name)
            setattr(attention, f"{name}_TC_lora", GatedAdapter(linear.in_features, linear.out_features, rank))
        out = attention.to_out[0]
        attention.to_out_TC_lora = GatedAdapter(out.in_features, out.out_features, rank)
        first.proj_TC_lora = GatedAdapter(first.proj.in_features, first.proj.out_features, rank)
        self.ff.proj_out_TC_lora = GatedAdapter(second.in_features, second.out_features, rank)
        attention.set_processor(GatedAttentionProcessor())

    def forward(
        self,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        temb: Tensor,
        image_rotary_emb: tuple[Tensor, Tensor] | None = None,
        attention_kwargs: dict[str, Any] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return the video and text tokens after attention and feed-forward.

        attention_kwargs: `gate` [B, video, D] and `wide_gate` [B, video, 4 * D].
        """
        if attention_kwargs is None:
            raise ValueError("attention_kwargs must hold the gates")
        gate, wide_gate = attention_kwargs["gate"], attention_kwargs["wide_gate"]

        video, text, video_scale, text_scale = self.norm1(hidden_states, encoder_hidden_states, temb)
        video, text = self.attn1(video, encoder_hidden_states=text, image_rotary_emb=image_rotary_emb, gate=gate)
        hidden_states = hidden_states + video_scale * video
        encoder_hidden_states = encoder_hidden_states + text_scale * text

        video, text, video_scale, text_scale = self.norm2(hidden_states, encoder_hidden_states, temb)
        num_text = text.shape[1]
        tokens = self._feed_forward(torch.cat([text, video], dim=1), gate, wide_gate)
        hidden_states = hidden_states + video_scale * tokens[:, num_text:]
        encoder_hidden_states = encoder_hidden_states + text_scale * tokens[:, :num_text]
        return hidden_states, encoder_hidden_states

    def _feed_forward(self, tokens: Tensor, gate: Tensor, wide_gate: Tensor) -> Tensor:
        first, dropout, second, *rest = self.ff.net
        tokens = first.gelu(project(first.proj, first.proj_TC_lora, tokens, wide_gate))
        tokens = project(second, self.ff.proj_out_TC_lora, dropout(tokens), gate)
        for layer in rest:
            tokens = layer(tokens)
        return tokens
