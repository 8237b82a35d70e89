"""The workflows of models whose weights a user brings."""

from __future__ import annotations

from typing import Any

from harmony_core.presets import preset

from .graph import CLIP, GUIDANCE, MODEL, RESULT, SAMPLING, Download, Graph, Node, Note, Out, sampling

OVI = preset("ovi-11b")
WAN = preset("wan2.2-ti2v-5b")
MMAUDIO_FILE = "mmaudio_16k.safetensors"  # of `harmony convert`

_WAN_HUB, _LTX_HUB, _H3_HUB = "Comfy-Org/Wan_2.2_ComfyUI_Repackaged", "Lightricks/LTX-2", "Comfy-Org/MiniMax-H3"
OVI_MODEL = Download("ovi_720x720_5s.safetensors", "diffusion_models", "chetwinlow1/Ovi", published="model.safetensors")
WAN_MODEL = Download("wan2.2_ti2v_5B_fp16.safetensors", "diffusion_models", _WAN_HUB, "split_files/diffusion_models/")
WAN_VAE = Download("wan2.2_vae.safetensors", "vae", _WAN_HUB, "split_files/vae/")
UMT5 = Download("umt5_xxl_fp8_e4m3fn_scaled.safetensors", "text_encoders", _WAN_HUB, "split_files/text_encoders/")
LTX = Download("ltx-2-19b-dev-fp8.safetensors", "checkpoints", _LTX_HUB)
GEMMA = Download("gemma_3_12B_it.safetensors", "text_encoders", "Comfy-Org/ltx-2", "split_files/text_encoders/")
H3 = Download("minimax_h3_fl2va_pruned_int8_convrot.safetensors", "diffusion_models", _H3_HUB, "diffusion_models/")
H3_VAE = Download("minimax_h3_video_vae_fp16.safetensors", "vae", _H3_HUB, "vae/")
H3_AUDIO_VAE = Download("minimax_h3_audio_vae_fp32.safetensors", "vae", _H3_HUB, "vae/")
QWEN = Download("qwen3vl_32b_minimax_h3_nvfp4_awq.safetensors", "text_encoders", _H3_HUB, "text_encoders/")


def _files(*downloads: Download) -> str:
    """A list for a note."""
    return "\n".join(f"- `models/{each.folder}/{each.name}`" for each in downloads)


def umt5_and_wan_vae() -> Graph:
    """Core's loaders of what Wan2.2 and its descendants read words and pictures with."""
    return {
        "text_encoder": Node("CLIPLoader", MODEL, {"clip_name": UMT5.name, "type": "wan"}, (UMT5,)),
        "vae": Node("VAELoader", MODEL, {"vae_name": WAN_VAE.name}, (WAN_VAE,)),
    }


def _ovi(prefix: str, text: dict[str, str], note: Note, **clip: Any) -> Graph:
    """Ovi's transformer with core's autoencoders and text encoder. Not trained on anchors: text guidance only."""
    words = {"clip": Out("text_encoder", "CLIP"), "prompt_format": OVI.prompt_format}
    negative = {"video_caption": OVI.negative_prompt, "audio_caption": OVI.negative_audio_prompt}
    coders = {"vae": Out("vae", "VAE"), "audio_vae": Out("audio_vae", "VAE")}
    return {
        "load": Node("HarmonyModelLoader", MODEL, {"model_name": OVI_MODEL.name}, (OVI_MODEL,)),
        **umt5_and_wan_vae(),
        "audio_vae": Node("VAELoader", MODEL, {"vae_name": MMAUDIO_FILE}),
        "text": Node("HarmonyTextEncode", CLIP, words | text),
        "negative": Node("HarmonyTextEncode", CLIP, words | {"prompt_format": "separate"} | negative),
        "clip": Node("HarmonyClip", CLIP, coders | {"model": Out("load", "model")} | clip),
        **sampling(
            Out("load", "model"),
            Out("text", "CONDITIONING"),
            Out("clip", "latent"),
            Out("clip", "anchors"),
            OVI.steps,
            negative=Out("negative", "CONDITIONING"),
            video_sync_scale=OVI.video_sync_scale,
            audio_sync_scale=OVI.audio_sync_scale,
            video_text_scale=OVI.video_text_scale,
            audio_text_scale=OVI.audio_text_scale,
        ),
        "decode": Node("HarmonyDecode", SAMPLING, {"latent": Out("sample", "output")} | coders),
        "save": Node("SaveVideo", RESULT, {"video": Out("decode", "video"), "filename_prefix": f"video/{prefix}"}),
        "note": note,
    }


OVI_FILES = (
    f"- `models/diffusion_models/{OVI_MODEL.name}`: Ovi's 720x720 5 s model, as published or in two parts\n"
    f"- `models/vae/{WAN_VAE.name}`: Wan2.2's VAE\n"
    f"- `models/vae/{MMAUDIO_FILE}`: MMAudio's 16 kHz VAE and vocoder in one file\n"
    f"- `models/text_encoders/{UMT5.name}`: umT5-xxl\n\n"
    "MMAudio's weights are licensed for non-commercial use."
)
OVI_TEXT = {
    "video_caption": "A woman in a yellow raincoat stands on a pier and speaks to the camera.",
    "audio_caption": "A clear woman's voice; waves and wind behind it.",
    "transcript": "The storm is almost here.",
}


def ovi_text_to_audio_video() -> Graph:
    note = (
        f"Files, by name or chosen in the loaders:\n{OVI_FILES}\n\nThe negative's two captions are Ovi's own. For the "
        "960 models set *prompt_format* to `ovi-suffix` and width and height in Harmony Clip to 960."
    )
    return _ovi("ovi", OVI_TEXT, Note("Ovi", note, RESULT))


def ovi_image_to_audio_video() -> Graph:
    note = (
        f"Files, by name or chosen in the loaders:\n{OVI_FILES}\n\nChoose a picture: it is scaled to cover the clip "
        "and cropped at the centre. Describe it: the caption says how it goes on."
    )
    graph = _ovi("ovi_image", OVI_TEXT, Note("Ovi from a picture", note, RESULT), first_frame=Out("image", "IMAGE"))
    return graph | {"image": Node("LoadImage", MODEL, {"image": "harmony_example.png"})}


def wan22_video_only() -> Graph:
    note = (
        "Wan2.2-TI2V-5B alone, through this pack's loader, which also takes the original and the diffusers files. It "
        "makes video without sound, so ComfyUI's own nodes do the rest.\n\n"
        f"{_files(WAN_MODEL, WAN_VAE, UMT5)}"
    )
    clip = Out("text_encoder", "CLIP")
    caption = "Waves break against a pier in a storm, a woman in a yellow raincoat looks on."
    size = {"width": WAN.width, "height": WAN.height, "length": 121}
    settings = {
        "positive": Out("text", "CONDITIONING"),
        "negative": Out("negative", "CONDITIONING"),
        "latent_image": Out("latent", "LATENT"),
        "seed": 1,
        "steps": WAN.steps,
        "cfg": WAN.video_text_scale,
        "sampler_name": "uni_pc",
        "scheduler": "simple",
    }
    return {
        "load": Node("HarmonyModelLoader", MODEL, {"model_name": WAN_MODEL.name}, (WAN_MODEL,)),
        **umt5_and_wan_vae(),
        "text": Node("CLIPTextEncode", CLIP, {"clip": clip, "text": caption}),
        "negative": Node("CLIPTextEncode", CLIP, {"clip": clip, "text": WAN.negative_prompt}),
        "latent": Node("Wan22ImageToVideoLatent", CLIP, {"vae": Out("vae", "VAE")} | size),
        "shift": Node("ModelSamplingSD3", GUIDANCE, {"model": Out("load", "model"), "shift": WAN.shift}),
        "sample": Node("KSampler", SAMPLING, {"model": Out("shift", "MODEL")} | settings),
        "decode": Node("VAEDecode", SAMPLING, {"samples": Out("sample", "LATENT"), "vae": Out("vae", "VAE")}),
        "video": Node("CreateVideo", SAMPLING, {"images": Out("decode", "IMAGE"), "fps": float(WAN.fps)}),
        "save": Node("SaveVideo", RESULT, {"video": Out("video", "VIDEO"), "filename_prefix": "video/wan22"}),
        "note": Note("Video only", note),
    }


LTX_FPS = 25.0


def _ltx2(caption: str) -> Graph:
    """LTX-2's parts and its prompts."""
    name, clip = {"ckpt_name": LTX.name}, {"clip": Out("text_encoder", "CLIP")}
    prompts = {"positive": Out("text", "CONDITIONING"), "negative": Out("no_text", "CONDITIONING")}
    return {
        "load": Node("CheckpointLoaderSimple", MODEL, name, (LTX,)),
        "audio_vae": Node("LTXVAudioVAELoader", MODEL, name, (LTX,)),
        "text_encoder": Node("LTXAVTextEncoderLoader", MODEL, {"text_encoder": GEMMA.name} | name, (GEMMA, LTX)),
        "text": Node("CLIPTextEncode", CLIP, clip | {"text": caption}),
        "no_text": Node("CLIPTextEncode", CLIP, clip | {"text": "blurry, distorted, muffled, noise"}),
        "rate": Node("LTXVConditioning", GUIDANCE, prompts | {"frame_rate": LTX_FPS}),
    }


LTX_CODERS = {"vae": Out("load", "VAE"), "audio_vae": Out("audio_vae", "Audio VAE")}
LTX_SCALES = {"video_sync_scale": 1.5, "audio_sync_scale": 1.5, "video_text_scale": 4.0, "audio_text_scale": 4.0}


def _ltx2_sampling(latent: Out, anchors: Out) -> Graph:
    model, positive, negative = Out("load", "MODEL"), Out("rate", "positive"), Out("rate", "negative")
    graph = sampling(model, positive, latent, anchors, 20, negative=negative, **LTX_SCALES)
    return graph | {"steps": Node("LTXVScheduler", GUIDANCE, {"steps": 20, "latent": latent})}


def ltx2_sync_cfg() -> Graph:
    note = (
        "SyncCFG on ComfyUI's own LTX-2: *Harmony Clip* lays out the clip and the anchors with LTX-2's autoencoders, "
        "*Harmony SyncCFG* guides. Both sync scales at 1.0 are ComfyUI's own guider.\n\n"
        f"{_files(LTX, GEMMA)}\n\n"
        "LTX-2 was not trained on still or silent partners; try scales between 1 and 2. Another frame rate goes into "
        "*Harmony Clip* and *LTXVConditioning* both."
    )
    return {
        **_ltx2("A woman in a yellow raincoat stands on a pier and says: the storm is almost here. Waves and wind."),
        "clip": Node("HarmonyClip", CLIP, LTX_CODERS | {"fps": LTX_FPS}),
        **_ltx2_sampling(Out("clip", "latent"), Out("clip", "anchors")),
        "decode": Node("HarmonyDecode", SAMPLING, {"latent": Out("sample", "output")} | LTX_CODERS),
        "save": Node("SaveVideo", RESULT, {"video": Out("decode", "video"), "filename_prefix": "video/ltx2_sync"}),
        "note": Note("LTX-2", note),
    }


def _lip_sync(vae: Out, fps: float, prefix: str) -> Graph:
    """Somebody's picture and sound, and the film of both; the sound is the file's own, not the autoencoder's."""
    video = {"images": Out("decode", "IMAGE"), "audio": Out("sound", "AUDIO"), "fps": fps}
    return {
        "image": Node("LoadImage", MODEL, {"image": "harmony_example.png"}),
        "sound": Node("LoadAudio", MODEL, {"audio": "harmony_example.wav"}),
        "parts": Node("LTXVSeparateAVLatent", SAMPLING, {"av_latent": Out("sample", "output")}),
        "decode": Node("VAEDecode", SAMPLING, {"samples": Out("parts", "video_latent"), "vae": vae}),
        "video": Node("CreateVideo", SAMPLING, video),
        "save": Node("SaveVideo", RESULT, {"video": Out("video", "VIDEO"), "filename_prefix": f"video/{prefix}"}),
    }


LIP_SYNC = (
    "Choose a picture of whoever speaks and your own recording (*harmony_example* is this pack's). *Harmony Given "
    "Audio* locks the sound, *Harmony Anchors* makes the silent partner that *Harmony SyncCFG* pushes the video away "
    "from: `video_sync_scale` is how closely the lips follow; 1.0 is ComfyUI's own guider."
)


def ltx2_lip_sync() -> Graph:
    note = (
        f"{LIP_SYNC} Sound that ends early is followed by silence.\n\n{_files(LTX, GEMMA)}\n\n"
        "*length* is frames, 25 a second: 8 n + 1. It stands in *EmptyLTXVLatentVideo* and *LTXVEmptyLatentAudio*. "
        "LTX-2.3 is one file as well: choose it in the three loaders."
    )
    frames, vae = 121, LTX_CODERS["vae"]
    empty = {"width": 768, "height": 512, "length": frames}
    sound = {"frames_number": frames, "frame_rate": LTX_FPS, "audio_vae": LTX_CODERS["audio_vae"]}
    first = {"vae": vae, "image": Out("image", "IMAGE"), "latent": Out("empty", "LATENT")}
    both = {"video_latent": Out("first", "latent"), "audio_latent": Out("silence", "Latent")}
    given = {"latent": Out("both", "latent"), "audio_vae": LTX_CODERS["audio_vae"], "audio": Out("sound", "AUDIO")}
    anchors = {"latent": Out("given", "LATENT"), "first_frame": Out("image", "IMAGE")} | LTX_CODERS
    return {
        **_ltx2("A woman faces the camera and speaks."),
        "empty": Node("EmptyLTXVLatentVideo", CLIP, empty),
        "first": Node("LTXVImgToVideoInplace", CLIP, first),
        "silence": Node("LTXVEmptyLatentAudio", CLIP, sound),
        "both": Node("LTXVConcatAVLatent", CLIP, both),
        "given": Node("HarmonyGivenAudio", SAMPLING, given),
        "anchors": Node("HarmonyAnchors", SAMPLING, anchors),
        **_ltx2_sampling(Out("given", "LATENT"), Out("anchors", "anchors")),
        **_lip_sync(vae, LTX_FPS, "ltx2_lip_sync"),
        "note": Note("Your own sound, LTX-2", note, RESULT),
    }


def h3_lip_sync() -> Graph:
    note = (
        f"{LIP_SYNC} Needs a ComfyUI in which MiniMax H3 knows masks (0.33 of August 2026 and later).\n\n"
        f"{_files(H3, H3_VAE, H3_AUDIO_VAE, QWEN)}\n\n"
        "*length* is frames, 24 a second: 17 n + 5. The model is distilled: text scales stay at 1.0."
    )
    coders = {"vae": Out("vae", "VAE"), "audio_vae": Out("audio_vae", "VAE")}
    caption = "The woman in <Picture 1> faces the camera and speaks."
    prompt = {"clip": Out("text_encoder", "CLIP"), "vae": coders["vae"], "prompt": caption}
    clip = {"width": 864, "height": 480, "length": 124, "first_frame": Out("image", "IMAGE")}
    given = {"latent": Out("clip", "LATENT"), "audio_vae": coders["audio_vae"], "audio": Out("sound", "AUDIO")}
    anchors = {"latent": Out("given", "LATENT"), "first_frame": Out("image", "IMAGE")} | coders
    graph = {
        "load": Node("UNETLoader", MODEL, {"unet_name": H3.name}, (H3,)),
        "text_encoder": Node("CLIPLoader", MODEL, {"clip_name": QWEN.name, "type": "minimax"}, (QWEN,)),
        "vae": Node("VAELoader", MODEL, {"vae_name": H3_VAE.name}, (H3_VAE,)),
        "audio_vae": Node("VAELoader", MODEL, {"vae_name": H3_AUDIO_VAE.name}, (H3_AUDIO_VAE,)),
        "clip": Node("MiniMaxH3ImageToVideo", CLIP, prompt | clip),
        "given": Node("HarmonyGivenAudio", SAMPLING, given),
        "anchors": Node("HarmonyAnchors", SAMPLING, anchors),
        **sampling(
            Out("load", "MODEL"),
            Out("clip", "positive"),
            Out("given", "LATENT"),
            Out("anchors", "anchors"),
            20,
            video_sync_scale=1.5,
            audio_sync_scale=1.5,
            video_text_scale=1.0,
            audio_text_scale=1.0,
        ),
        **_lip_sync(coders["vae"], 24.0, "h3_lip_sync"),
        "note": Note("Your own sound, MiniMax H3", note, RESULT),
    }
    graph["euler"].inputs = {"sampler_name": "res_multistep"}
    return graph
