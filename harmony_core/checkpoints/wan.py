"""Key tables of Wan2.2: its transformer in two layouts, its video autoencoder and its text encoder.

A rule is (key in the file, key in our module). `{field}` stands for one of the alternatives in `layout.FIELDS` and is
carried over.
"""

from __future__ import annotations

Rules = tuple[tuple[str, str], ...]

# A Wan transformer in Wan's and ComfyUI's own names, which are ours too.
BRANCH_KEYS = (
    "text_embedding.{seq}.{p}",
    "time_embedding.{seq}.{p}",
    "time_projection.1.{p}",
    "blocks.{n}.{attn}.{qkvo}.{p}",
    "blocks.{n}.{attn}.{norm}.weight",
    "blocks.{n}.norm3.{p}",
    "blocks.{n}.ffn.{seq}.{p}",
    "head.modulation",
    "head.head.{p}",
)
PATCH_KEY, MODULATION_KEY = "patch_embedding.{p}", "blocks.{n}.modulation"

WAN: Rules = tuple((key, key) for key in (PATCH_KEY, MODULATION_KEY, *BRANCH_KEYS))

DIFFUSERS: Rules = (
    ("patch_embedding.{p}", "patch_embedding.{p}"),
    ("condition_embedder.text_embedder.linear_1.{p}", "text_embedding.0.{p}"),
    ("condition_embedder.text_embedder.linear_2.{p}", "text_embedding.2.{p}"),
    ("condition_embedder.time_embedder.linear_1.{p}", "time_embedding.0.{p}"),
    ("condition_embedder.time_embedder.linear_2.{p}", "time_embedding.2.{p}"),
    ("condition_embedder.time_proj.{p}", "time_projection.1.{p}"),
    ("blocks.{n}.scale_shift_table", "blocks.{n}.modulation"),
    ("blocks.{n}.attn1.to_{qkv}.{p}", "blocks.{n}.self_attn.{qkv}.{p}"),
    ("blocks.{n}.attn1.to_out.0.{p}", "blocks.{n}.self_attn.o.{p}"),
    ("blocks.{n}.attn1.{norm}.weight", "blocks.{n}.self_attn.{norm}.weight"),
    ("blocks.{n}.attn2.to_{qkv}.{p}", "blocks.{n}.cross_attn.{qkv}.{p}"),
    ("blocks.{n}.attn2.to_out.0.{p}", "blocks.{n}.cross_attn.o.{p}"),
    ("blocks.{n}.attn2.{norm}.weight", "blocks.{n}.cross_attn.{norm}.weight"),
    ("blocks.{n}.norm2.{p}", "blocks.{n}.norm3.{p}"),  # diffusers numbers the norms in order of use
    ("blocks.{n}.ffn.net.0.proj.{p}", "blocks.{n}.ffn.0.{p}"),
    ("blocks.{n}.ffn.net.2.{p}", "blocks.{n}.ffn.2.{p}"),
    ("scale_shift_table", "head.modulation"),
    ("proj_out.{p}", "head.head.{p}"),
)


def _residual(source: str, target: str) -> Rules:
    """A residual block: norm, conv, norm, conv, and a 1x1 shortcut where the width changes."""
    return (
        (f"{source}.residual.0.gamma", f"{target}.norm1.gamma"),
        (f"{source}.residual.2.{{p}}", f"{target}.conv1.{{p}}"),
        (f"{source}.residual.3.gamma", f"{target}.norm2.gamma"),
        (f"{source}.residual.6.{{p}}", f"{target}.conv2.{{p}}"),
        (f"{source}.shortcut.{{p}}", f"{target}.conv_shortcut.{{p}}"),
    )


def _vae_side(side: str, source: str, target: str, resampler: str) -> Rules:
    """Encoder or decoder of the Wan2.2 VAE to diffusers' names."""
    level, block = f"{side}.{source}.{{n}}.{source}", f"{side}.{target}.{{n}}"
    return (
        (f"{side}.conv1.{{p}}", f"{side}.conv_in.{{p}}"),
        *_residual(f"{level}.{{m}}", f"{block}.resnets.{{m}}"),
        (f"{level}.{{m}}.resample.1.{{p}}", f"{block}.{resampler}.resample.1.{{p}}"),
        (f"{level}.{{m}}.time_conv.{{p}}", f"{block}.{resampler}.time_conv.{{p}}"),
        *_residual(f"{side}.middle.0", f"{side}.mid_block.resnets.0"),
        (f"{side}.middle.1.norm.gamma", f"{side}.mid_block.attentions.0.norm.gamma"),
        (f"{side}.middle.1.to_qkv.{{p}}", f"{side}.mid_block.attentions.0.to_qkv.{{p}}"),
        (f"{side}.middle.1.proj.{{p}}", f"{side}.mid_block.attentions.0.proj.{{p}}"),
        *_residual(f"{side}.middle.2", f"{side}.mid_block.resnets.1"),
        (f"{side}.head.0.gamma", f"{side}.norm_out.gamma"),
        (f"{side}.head.2.{{p}}", f"{side}.conv_out.{{p}}"),
    )


VAE: Rules = (
    *_vae_side("encoder", "downsamples", "down_blocks", "downsampler"),
    *_vae_side("decoder", "upsamples", "up_blocks", "upsampler"),
    ("conv1.{p}", "quant_conv.{p}"),
    ("conv2.{p}", "post_quant_conv.{p}"),
)

UMT5: Rules = (
    ("token_embedding.weight", "shared.weight"),
    ("blocks.{n}.norm1.weight", "encoder.block.{n}.layer.0.layer_norm.weight"),
    ("blocks.{n}.attn.{qkvo}.weight", "encoder.block.{n}.layer.0.SelfAttention.{qkvo}.weight"),
    (
        "blocks.{n}.pos_embedding.embedding.weight",
        "encoder.block.{n}.layer.0.SelfAttention.relative_attention_bias.weight",
    ),
    ("blocks.{n}.norm2.weight", "encoder.block.{n}.layer.1.layer_norm.weight"),
    ("blocks.{n}.ffn.gate.0.weight", "encoder.block.{n}.layer.1.DenseReluDense.wi_0.weight"),
    ("blocks.{n}.ffn.fc1.weight", "encoder.block.{n}.layer.1.DenseReluDense.wi_1.weight"),
    ("blocks.{n}.ffn.fc2.weight", "encoder.block.{n}.layer.1.DenseReluDense.wo.weight"),
    ("norm.weight", "encoder.final_layer_norm.weight"),
)
