"""What each shipped workflow does: its nodes, their links and the values that differ from the nodes' defaults."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from harmony_core.checkpoints import describe
from harmony_core.presets import preset

from .workflows import BUILT_IN

CONFIG = describe("harmony-tiny")["config"]

# one column of the page each, left to right
MODEL, CLIP, GUIDANCE, SAMPLING, RESULT = "Model and media", "What to make", "Guidance", "Sampling", "Result"


@dataclass(frozen=True)
class Out:
    """An output of another node, by the node's key and the output's name."""

    node: str
    name: str


@dataclass
class Node:
    """A node of a graph. Inputs that are not named keep their default."""

    type: str
    column: str
    inputs: dict[str, Any] = field(default_factory=dict)


@dataclass
class Note:
    """Markdown beside the nodes."""

    title: str
    text: str
    column: str = MODEL


Graph = dict[str, Node | Note]
BALL = {"video_caption": "a blue ball bounces on metal", "audio_caption": "a ball hits metal"}
WORDS = "fly, go, hello, home, ice, law, me, moon, no, rain, shoe, sun, wow, yes, you, zoo"


def _clip(**changes: Any) -> dict[str, Any]:
    inputs = {
        "vae": Out("load", "vae"),
        "audio_vae": Out("load", "audio_vae"),
        "seconds": float(CONFIG["seconds"]),
        "fps": float(CONFIG["fps"]),
        "width": CONFIG["width"],
        "height": CONFIG["height"],
    }
    return inputs | changes


def _decode(latent: Out, **changes: Any) -> dict[str, Any]:
    return {"latent": latent, "vae": Out("load", "vae"), "audio_vae": Out("load", "audio_vae")} | changes


def _sampling(
    model: Out, positive: Out, latent: Out, anchors: Out, steps: int, key: str = "", **guidance: Any
) -> Graph:
    """Core's sampling nodes around Harmony SyncCFG."""
    return {
        f"guider{key}": Node(
            "HarmonySyncCFG", GUIDANCE, {"model": model, "positive": positive, "anchors": anchors} | guidance
        ),
        f"noise{key}": Node("RandomNoise", GUIDANCE, {"noise_seed": 5}),
        f"euler{key}": Node("KSamplerSelect", GUIDANCE, {"sampler_name": "euler"}),
        f"steps{key}": Node("BasicScheduler", GUIDANCE, {"model": model, "scheduler": "simple", "steps": steps}),
        f"sample{key}": Node(
            "SamplerCustomAdvanced",
            SAMPLING,
            {
                "noise": Out(f"noise{key}", "NOISE"),
                "guider": Out(f"guider{key}", "GUIDER"),
                "sampler": Out(f"euler{key}", "SAMPLER"),
                "sigmas": Out(f"steps{key}", "SIGMAS"),
                "latent_image": latent,
            },
        ),
    }


def _tiny(prefix: str, text: dict[str, str], **clip: Any) -> Graph:
    """The built-in model from words to a saved clip."""
    return {
        "load": Node("HarmonyCheckpointLoader", MODEL, {"checkpoint": BUILT_IN}),
        "text": Node("HarmonyTextEncode", CLIP, {"clip": Out("load", "clip")} | text),
        "no_text": Node("HarmonyTextEncode", CLIP, {"clip": Out("load", "clip"), "video_caption": ""}),
        "clip": Node("HarmonyClip", CLIP, _clip(**clip)),
        **_sampling(
            Out("load", "model"),
            Out("text", "CONDITIONING"),
            Out("clip", "latent"),
            Out("clip", "anchors"),
            CONFIG["steps"],
            negative=Out("no_text", "CONDITIONING"),
        ),
        "decode": Node("HarmonyDecode", SAMPLING, _decode(Out("sample", "output"))),
        "save": Node("SaveVideo", RESULT, {"video": Out("decode", "video"), "filename_prefix": f"video/{prefix}"}),
    }


def text_to_audio_video() -> Graph:
    note = (
        "The model is part of this pack: press **Run**, nothing is downloaded.\n\n"
        "It knows two worlds, 64 pixels small:\n"
        "- `a blue ball bounces on metal` (red, blue, green, yellow, orange, purple; wood, metal, rubber, glass)\n"
        f"- `a woman with ginger hair in a blue shirt speaks`, with words to say in *transcript*: {WORDS}\n\n"
        "**Harmony SyncCFG** keeps picture and sound together; set both scales to 1.0 to hear and see what it does."
    )
    return _tiny("harmony", BALL) | {"note": Note("Start here", note)}


def beginner() -> Graph:
    graph = text_to_audio_video()
    for key in ("guider", "noise", "euler", "steps", "note"):
        del graph[key]
    graph["sample"] = Node(
        "HarmonySampler",
        SAMPLING,
        {
            "model": Out("load", "model"),
            "positive": Out("text", "CONDITIONING"),
            "negative": Out("no_text", "CONDITIONING"),
            "latent": Out("clip", "latent"),
            "anchors": Out("clip", "anchors"),
            "seed": 5,
        },
    )
    graph["decode"].inputs["latent"] = Out("sample", "LATENT")
    graph["save"].inputs["filename_prefix"] = "video/harmony_beginner"
    note = (
        "Seven nodes: press **Run**.\n\nOther words, another seed, or both sync scales at 1.0 to hear and see what "
        "they do. *text_to_audio_video* is the same with every part of the sampler open."
    )
    graph["note"] = Note("The shortest way", note)
    return graph


def image_to_audio_video() -> Graph:
    note = (
        "Choose a picture (*harmony_example* is this pack's). The clip starts from it. It is scaled to "
        "cover 64x64 and cropped at the centre.\n\nDescribe what is in it: the caption says how it goes on."
    )
    return _tiny("harmony_image", BALL, first_frame=Out("image", "IMAGE")) | {
        "image": Node("LoadImage", MODEL, {"image": "harmony_example.png"}),
        "note": Note("First frame", note),
    }


def audio_to_video() -> Graph:
    text = {
        "video_caption": "a woman with ginger hair in a blue shirt speaks",
        "audio_caption": "a woman says three words",
        "transcript": "go moon shoe",
    }
    note = (
        "Choose a recording (*harmony_example* is this pack's). The sound stays exactly as it is; the "
        "video is made to it. Set *seconds* in Harmony Clip to its length.\n\nWrite the words that are spoken into "
        "*transcript* if you know them."
    )
    graph = _tiny("harmony_lipsync", text) | {
        "sound": Node("LoadAudio", MODEL, {"audio": "harmony_example.wav"}),
        "given": Node(
            "HarmonyGivenAudio",
            CLIP,
            {"latent": Out("clip", "latent"), "audio_vae": Out("load", "audio_vae"), "audio": Out("sound", "AUDIO")},
        ),
        "note": Note("Your own sound", note),
    }
    graph["sample"].inputs["latent_image"] = Out("given", "LATENT")
    return graph


def video_to_audio() -> Graph:
    note = (
        "Choose a video (*harmony_example* is this pack's). The pictures stay as they are; the sound is "
        "made to them. Set *seconds* in Harmony Clip to the length of the video."
    )
    graph = _tiny("harmony_foley", BALL) | {
        "film": Node("LoadVideo", MODEL, {"file": "harmony_example.mp4"}),
        "given": Node(
            "HarmonyGivenVideo",
            CLIP,
            {"latent": Out("clip", "latent"), "vae": Out("load", "vae"), "video": Out("film", "VIDEO")},
        ),
        "note": Note("Your own video", note),
    }
    graph["sample"].inputs["latent_image"] = Out("given", "LATENT")
    return graph


def voice_clone() -> Graph:
    text = {
        "video_caption": "a woman with black hair in a red shirt speaks",
        "audio_caption": "a woman says three words",
        "transcript": "hello you sun",
    }
    note = (
        "Choose a recording (*harmony_example* is this pack's): about half a second of the voice that "
        "should speak. What it says does not matter."
    )

    def voice(text: str) -> Node:
        inputs = {"audio_vae": Out("load", "audio_vae"), "audio": Out("sound", "AUDIO")}
        return Node("HarmonyReferenceAudio", CLIP, {"conditioning": Out(text, "CONDITIONING")} | inputs)

    graph = _tiny("harmony_voice", text) | {
        "sound": Node("LoadAudio", MODEL, {"audio": "harmony_example.wav"}),
        "voice": voice("text"),
        "voice_alone": voice("no_text"),
        "note": Note("Whose voice", note),
    }
    graph["guider"].inputs |= {
        "positive": Out("voice", "CONDITIONING"),
        "negative": Out("voice_alone", "CONDITIONING"),
    }
    return graph


def reroll_sound() -> Graph:
    note = (
        "The first clip's pictures are kept as they are, and the second sampler makes another sound for them. "
        "*Harmony Given Audio* does it the other way round."
    )
    graph = _tiny("harmony_first", BALL)
    again = {**graph["sample"].inputs, "noise": Out("noise2", "NOISE"), "latent_image": Out("given", "LATENT")}
    return graph | {
        "given": Node("HarmonyGivenVideo", SAMPLING, {"latent": Out("sample", "output"), "vae": Out("load", "vae")}),
        "noise2": Node("RandomNoise", GUIDANCE, {"noise_seed": 2}),
        "sample2": Node("SamplerCustomAdvanced", SAMPLING, again),
        "decode2": Node("HarmonyDecode", SAMPLING, _decode(Out("sample2", "output"))),
        "save2": Node(
            "SaveVideo", RESULT, {"video": Out("decode2", "video"), "filename_prefix": "video/harmony_rerolled"}
        ),
        "note": Note("Same pictures, new sound", note),
    }


def low_memory() -> Graph:
    note = (
        "Where memory is short, in the order of what it costs:\n"
        "1. *Harmony Decode*: pictures in pieces (`chunk_seconds`), then in tiles (`tile_size`). Costs a little time.\n"
        "2. *Harmony Clip*: shorter, or smaller. Memory goes with seconds x width x height.\n"
        "3. *Harmony SyncCFG*: a sync scale of 1.0 saves a pass and its cache. The cache moves by itself to main "
        "memory when the card is full, and is left out when that is full too; the log says which.\n"
        "4. Larger models: *weight_dtype* fp8 in Harmony Model Loader, and ComfyUI's own `--lowvram`, `--novram` and "
        "`--cache-none`."
    )
    graph = _tiny("harmony_low_memory", BALL) | {"note": Note("What saves memory", note)}
    graph["decode"].inputs |= {"chunk_seconds": 0.5}
    return graph


OVI_FILE = "ovi_720x720_5s.safetensors"
MMAUDIO_FILE = "mmaudio_16k.safetensors"
WAN_FILE, WAN_VAE_FILE = "wan2.2_ti2v_5B_fp16.safetensors", "wan2.2_vae.safetensors"
UMT5_FILE = "umt5_xxl_fp8_e4m3fn_scaled.safetensors"
OVI = preset("ovi-11b")
WAN = preset("wan2.2-ti2v-5b")


def _umt5_and_wan_vae() -> Graph:
    return {
        "text_encoder": Node("CLIPLoader", MODEL, {"clip_name": UMT5_FILE, "type": "wan"}),
        "vae": Node("VAELoader", MODEL, {"vae_name": WAN_VAE_FILE}),
    }


def _ovi(prefix: str, text: dict[str, str], note: Note, **clip: Any) -> Graph:
    """Ovi's transformer with core's autoencoders and text encoder. Not trained on anchors: text guidance only."""
    words = {"clip": Out("text_encoder", "CLIP"), "prompt_format": OVI.prompt_format}
    negative = {"video_caption": OVI.negative_prompt, "audio_caption": OVI.negative_audio_prompt}
    coders = {"vae": Out("vae", "VAE"), "audio_vae": Out("audio_vae", "VAE")}
    return {
        "load": Node("HarmonyModelLoader", MODEL, {"model_name": OVI_FILE}),
        **_umt5_and_wan_vae(),
        "audio_vae": Node("VAELoader", MODEL, {"vae_name": MMAUDIO_FILE}),
        "text": Node("HarmonyTextEncode", CLIP, words | text),
        "negative": Node("HarmonyTextEncode", CLIP, words | {"prompt_format": "separate"} | negative),
        "clip": Node("HarmonyClip", CLIP, coders | {"model": Out("load", "model")} | clip),
        **_sampling(
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
    f"- `models/diffusion_models/{OVI_FILE}`: Ovi's 720x720 5 s model, as published or in two parts\n"
    f"- `models/vae/{WAN_VAE_FILE}`: Wan2.2's VAE\n"
    f"- `models/vae/{MMAUDIO_FILE}`: MMAudio's 16 kHz VAE and vocoder in one file\n"
    f"- `models/text_encoders/{UMT5_FILE}`: umT5-xxl\n\n"
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
    return _ovi("ovi", OVI_TEXT, Note("Ovi", note))


def ovi_image_to_audio_video() -> Graph:
    note = (
        f"Files, by name or chosen in the loaders:\n{OVI_FILES}\n\nChoose a picture: it is scaled to cover the clip "
        "and cropped at the centre. Describe it: the caption says how it goes on."
    )
    graph = _ovi("ovi_image", OVI_TEXT, Note("Ovi from a picture", note), first_frame=Out("image", "IMAGE"))
    return graph | {"image": Node("LoadImage", MODEL, {"image": "harmony_example.png"})}


def wan22_video_only() -> Graph:
    note = (
        "Wan2.2-TI2V-5B alone, through this pack's loader, which also takes the original and the diffusers files. It "
        "makes video without sound, so ComfyUI's own nodes do the rest.\n\n"
        f"- `models/diffusion_models/{WAN_FILE}`\n- `models/vae/{WAN_VAE_FILE}`\n"
        f"- `models/text_encoders/{UMT5_FILE}`"
    )
    clip = Out("text_encoder", "CLIP")
    caption = "Waves break against a pier in a storm, a woman in a yellow raincoat looks on."
    size = {"width": WAN.width, "height": WAN.height, "length": 121}
    sampling = {
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
        "load": Node("HarmonyModelLoader", MODEL, {"model_name": WAN_FILE}),
        **_umt5_and_wan_vae(),
        "text": Node("CLIPTextEncode", CLIP, {"clip": clip, "text": caption}),
        "negative": Node("CLIPTextEncode", CLIP, {"clip": clip, "text": WAN.negative_prompt}),
        "latent": Node("Wan22ImageToVideoLatent", CLIP, {"vae": Out("vae", "VAE")} | size),
        "shift": Node("ModelSamplingSD3", GUIDANCE, {"model": Out("load", "model"), "shift": WAN.shift}),
        "sample": Node("KSampler", SAMPLING, {"model": Out("shift", "MODEL")} | sampling),
        "decode": Node("VAEDecode", SAMPLING, {"samples": Out("sample", "LATENT"), "vae": Out("vae", "VAE")}),
        "video": Node("CreateVideo", SAMPLING, {"images": Out("decode", "IMAGE"), "fps": float(WAN.fps)}),
        "save": Node("SaveVideo", RESULT, {"video": Out("video", "VIDEO"), "filename_prefix": "video/wan22"}),
        "note": Note("Video only", note),
    }


LTX_FILE, GEMMA_FILE = "ltx-2-19b-dev-fp8.safetensors", "gemma_3_12B_it.safetensors"
LTX_FPS = 25.0


def ltx2_sync_cfg() -> Graph:
    note = (
        "SyncCFG on ComfyUI's own LTX-2: *Harmony Clip* lays out the clip and the anchors with LTX-2's autoencoders, "
        "*Harmony SyncCFG* guides. Both sync scales at 1.0 are ComfyUI's own guider.\n\n"
        f"- `models/checkpoints/{LTX_FILE}`\n- `models/text_encoders/{GEMMA_FILE}`\n\n"
        "LTX-2 was not trained on still or silent partners; try scales between 1 and 2. Another frame rate goes into "
        "*Harmony Clip* and *LTXVConditioning* both."
    )
    coders = {"vae": Out("load", "VAE"), "audio_vae": Out("audio_vae", "Audio VAE")}
    clip = Out("text_encoder", "CLIP")
    caption = "A woman in a yellow raincoat stands on a pier and says: the storm is almost here. Waves and wind."
    graph = {
        "load": Node("CheckpointLoaderSimple", MODEL, {"ckpt_name": LTX_FILE}),
        "audio_vae": Node("LTXVAudioVAELoader", MODEL, {"ckpt_name": LTX_FILE}),
        "text_encoder": Node("LTXAVTextEncoderLoader", MODEL, {"text_encoder": GEMMA_FILE, "ckpt_name": LTX_FILE}),
        "text": Node("CLIPTextEncode", CLIP, {"clip": clip, "text": caption}),
        "no_text": Node("CLIPTextEncode", CLIP, {"clip": clip, "text": "blurry, distorted, muffled, noise"}),
        "rate": Node(
            "LTXVConditioning",
            CLIP,
            {
                "positive": Out("text", "CONDITIONING"),
                "negative": Out("no_text", "CONDITIONING"),
                "frame_rate": LTX_FPS,
            },
        ),
        "clip": Node("HarmonyClip", CLIP, coders | {"fps": LTX_FPS}),
        **_sampling(
            Out("load", "MODEL"),
            Out("rate", "positive"),
            Out("clip", "latent"),
            Out("clip", "anchors"),
            20,
            negative=Out("rate", "negative"),
            video_sync_scale=1.5,
            audio_sync_scale=1.5,
            video_text_scale=4.0,
            audio_text_scale=4.0,
        ),
        "decode": Node("HarmonyDecode", SAMPLING, {"latent": Out("sample", "output")} | coders),
        "save": Node("SaveVideo", RESULT, {"video": Out("decode", "video"), "filename_prefix": "video/ltx2_sync"}),
        "note": Note("LTX-2", note),
    }
    steps = {"steps": 20, "latent": Out("clip", "latent")}
    graph["steps"] = Node("LTXVScheduler", GUIDANCE, steps)
    return graph


GRAPHS: dict[str, Callable[[], Graph]] = {
    make.__name__: make
    for make in (
        text_to_audio_video,
        beginner,
        image_to_audio_video,
        audio_to_video,
        video_to_audio,
        voice_clone,
        reroll_sound,
        low_memory,
        ovi_text_to_audio_video,
        ovi_image_to_audio_video,
        wan22_video_only,
        ltx2_sync_cfg,
    )
}
