"""Published and shipped models by name: their configs, with the prompts that came with them."""

from __future__ import annotations

from .config import HarmonyConfig, SpeechConfig
from .quoting import quoted

# Published with Wan2.2 as its negative prompt.
_WAN_NEGATIVE = (
    "色调艳丽，过曝，静态，细节模糊不清，字幕，风格，作品，画作，画面，静止，整体发灰，最差质量，低质量，JPEG压缩残留，丑陋的，残缺的，"  # noqa: RUF001
    "多余的手指，画得不好的手部，画得不好的脸部，畸形的，毁容的，形态畸形的肢体，手指融合，静止不动的画面，杂乱的背景，三条腿，背景人很多，"  # noqa: RUF001
    "倒着走"
)

_WAN_5B = HarmonyConfig(
    dim=3072,
    ffn_dim=14336,
    num_heads=24,
    num_layers=30,
    audio=False,
    interaction="none",
    style_alignment=False,
    reference_seconds=2.0,  # the paper: 1 to 3
)

_OVI_11B = _WAN_5B.with_(
    audio=True,
    interaction="global",
    rope_alignment="ovi",
    audio_patch_embedding="swiglu_conv",
    audio_ffn_conv_dim=8192,
    audio_rope_scale=0.19676,
    style_alignment=False,
    driver_isolation=False,
    num_audio_latents=((31, 157), (61, 314)),
    height=704,  # 720, in whole patches of 32 pixels
    width=704,
    steps=50,
    video_sync_scale=1.0,
    audio_sync_scale=1.0,
    video_text_scale=4.0,
    audio_text_scale=3.0,
    prompt_format="ovi",
    negative_prompt="jitter, bad hands, blur, distortion",
    negative_audio_prompt="robotic, muffled, echo, distorted",
)

_UNIAVGEN = _WAN_5B.with_(
    audio=True,
    audio_dim=1536,
    audio_ffn_dim=8960,
    audio_num_heads=12,
    audio_channels=80,  # mel bands
    audio_patch_embedding="mlp",
    audio_rope="all",
    interaction="masked",
    interaction_layers=tuple(range(0, 30, 2)),
    references="leading",
    voice_hears_video=False,
    mute_reads_transcript=False,
    speech=SpeechConfig(vocab="f5-characters", reading="cross", min_len=10, max_len=4096),
    fps="16",
    seconds="81/16",
    height=736,
    width=1280,
    sample_rate=24000,
    audio_latent_rate="100",
    num_audio_latents=((21, 506),),
    reference_seconds=10.0,
    reference_silence=0.3,
    schedule="linear",
    steps=50,
    video_sync_scale=1.0,
    audio_sync_scale=1.0,
    video_negative_scale=3.0,
    audio_negative_scale=2.0,
    negative_skip_layers=(11,),
)

PRESETS: dict[str, HarmonyConfig] = {
    "wan2.2-ti2v-5b": _WAN_5B.with_(
        steps=50,
        video_sync_scale=1.0,
        audio_sync_scale=1.0,
        video_text_scale=5.0,
        negative_prompt=_WAN_NEGATIVE,
        driver_isolation=False,
    ),
    "harmony-5b": _WAN_5B.with_(audio=True, interaction="framewise", style_alignment=True, speech=SpeechConfig()),
    "ovi-11b": _OVI_11B,
    "ovi-11b-960": _OVI_11B.with_(height=960, width=960, prompt_format="ovi-suffix"),
    "dreamid-omni": _OVI_11B.with_(
        references="appended",
        audio_rope_scale=0.197265625,  # 31 / 157 as it is there, in bfloat16
        # There v = neg + 3 (pos - neg) + 1.5 (pos - no_image), a = neg + 4 (pos - neg) + 2 (pos - no_audio). So the
        # factors of what is added to pos are 3 - 1, 1.5, 4 - 1 and 2; a scale is its factor + 1.
        video_text_scale=3.0,
        audio_text_scale=4.0,
        video_reference_scale=2.5,
        audio_reference_scale=3.0,
    ),
    "uniavgen": _UNIAVGEN,
    "uniavgen-rounded": _UNIAVGEN.with_(published_rounding=True),
    "uniavgen-sync": _UNIAVGEN.with_(  # SyncCFG in the place of the published guidance
        video_negative_scale=1.0, audio_negative_scale=1.0, video_sync_scale=3.0, audio_sync_scale=2.0
    ),
    "harmony-tiny": HarmonyConfig(
        dim=160,
        ffn_dim=480,
        num_heads=5,
        num_layers=6,
        freq_dim=64,
        text_dim=64,
        text_len=20,
        video_channels=24,
        audio_channels=20,
        rope_alignment="timestamp",
        cross_rope_scale=8.0,
        style_pooling="frame",
        speech=SpeechConfig(vocab="letters", vocab_size=28, max_len=24, dim=96, num_blocks=2),
        fps="12.5",
        seconds="2",
        height=64,
        width=64,
        audio_latent_rate="25",
        spatial_stride=8,
        reference_seconds=0.48,
        shift=3.0,
        steps=25,
        video_sync_scale=1.5,
        audio_sync_scale=1.5,
        video_text_scale=2.0,
        audio_text_scale=3.0,
    ),
}


def preset(name: str) -> HarmonyConfig:
    """The named preset; a wrong name is an error that lists them."""
    if name not in PRESETS:
        raise ValueError(f"Unknown preset {quoted(name)}. Presets: {', '.join(PRESETS)}.")
    return PRESETS[name]
