"""The workflows of UniAVGen: somebody in a picture who speaks."""

from __future__ import annotations

from typing import Any

from harmony_core.presets import preset

from .graph import CLIP, GUIDANCE, MODEL, RESULT, SAMPLING, Graph, Node, Note, Out, sampling
from .large import UMT5, WAN_VAE, umt5_and_wan_vae

CONFIG, SYNC = preset("uniavgen"), preset("uniavgen-sync")
MODEL_FILE = "uniavgen.safetensors"  # of `harmony convert`, as the vocoder
VOCODER_FILE = "uniavgen_vocoder.safetensors"
CODERS = {"vae": Out("vae", "VAE"), "audio_vae": Out("audio_vae", "audio_vae")}
FILES = (
    f"- `models/diffusion_models/{MODEL_FILE}`: UniAVGen's shards in one file (`harmony convert`), or any one of them\n"
    f"- `models/vae/{VOCODER_FILE}`: its `code2wav_bigvgan_model` (`harmony convert --kind uniavgen-vocoder`)\n"
    f"- `models/vae/{WAN_VAE.name}`, `models/text_encoders/{UMT5.name}`\n\n"
    "A clip is 81 frames at 16 a second, of the picture's shape; no other length was trained."
)
SCALES = (
    "*video_negative_scale* and *audio_negative_scale* are UniAVGen's own guidance. SyncCFG instead: set both to 1.0, "
    f"*video_sync_scale* to {SYNC.video_sync_scale:.1f} and *audio_sync_scale* to {SYNC.audio_sync_scale:.1f}."
)
PERSON = "A woman in a yellow raincoat faces the camera and speaks, with lively eyes and small gestures."


def _uniavgen(prefix: str, words: str, picture: Out, latent: Out, positive: Out, media: Graph, note: Note) -> Graph:
    """What the four tasks share. `media` has the nodes that bring and give what is given."""
    text = {"clip": Out("text_encoder", "CLIP"), "video_caption": PERSON, "audio_caption": "", "transcript": words}
    clip = CODERS | {"model": Out("load", "model"), "first_frame": picture}
    scales: dict[str, Any] = {
        f"{stream}_{kind}_scale": getattr(CONFIG, f"{stream}_{kind}_scale")
        for kind in ("sync", "text", "negative")
        for stream in ("video", "audio")
    }
    graph: Graph = {
        "load": Node("HarmonyModelLoader", MODEL, {"model_name": MODEL_FILE}),
        **umt5_and_wan_vae(),
        "audio_vae": Node("HarmonyAudioVAELoader", MODEL, {"vae_name": VOCODER_FILE}),
        "text": Node("HarmonyTextEncode", CLIP, text),
        "clip": Node("HarmonyClip", CLIP, clip),
        **media,
        **sampling(Out("load", "model"), positive, latent, Out("clip", "anchors"), CONFIG.steps, **scales),
        "decode": Node("HarmonyDecode", SAMPLING, {"latent": Out("sample", "output")} | CODERS),
        "save": Node("SaveVideo", RESULT, {"video": Out("decode", "video"), "filename_prefix": f"video/{prefix}"}),
        "note": note,
    }
    return graph | {"steps": Node("HarmonyScheduler", GUIDANCE, {"model": Out("load", "model"), "steps": CONFIG.steps})}


def _image() -> Node:
    return Node("LoadImage", MODEL, {"image": "harmony_example.png"})


def _sound() -> Node:
    return Node("LoadAudio", MODEL, {"audio": "harmony_example.wav"})


def uniavgen_talking_person() -> Graph:
    note = (
        f"Choose a picture of somebody, describe them in one plain sentence, and write what they say in *transcript*; "
        f"Chinese with *language* `zh`.\n\n{FILES}\n\n{SCALES}"
    )
    return _uniavgen(
        "uniavgen",
        "The storm is almost here.",
        picture=Out("image", "IMAGE"),
        latent=Out("clip", "latent"),
        positive=Out("text", "CONDITIONING"),
        media={"image": _image()},
        note=Note("Somebody speaks", note, RESULT),
    )


def uniavgen_voice() -> Graph:
    note = (
        "As the talking person, in the voice of a recording: *Harmony Reference Audio* takes it with the words that "
        f"are said in it, exactly; at most ten seconds are heard (*harmony_example* is this pack's).\n\n{FILES}\n\n"
        f"{SCALES}"
    )
    voice = {
        "conditioning": Out("text", "CONDITIONING"),
        "audio_vae": CODERS["audio_vae"],
        "audio": Out("sound", "AUDIO"),
        "transcript": "Hello, yes, moon.",
    }
    return _uniavgen(
        "uniavgen_voice",
        "The storm is almost here.",
        picture=Out("image", "IMAGE"),
        latent=Out("clip", "latent"),
        positive=Out("voice", "CONDITIONING"),
        media={"image": _image(), "sound": _sound(), "voice": Node("HarmonyReferenceAudio", GUIDANCE, voice)},
        note=Note("A voice of your own", note, RESULT),
    )


def uniavgen_lip_sync() -> Graph:
    note = (
        "Choose a picture and your own recording (*harmony_example* is this pack's), and write what is said in it. The "
        f"sound is kept; after a short one there is silence.\n\n{FILES}\n\n{SCALES}"
    )
    given = {"latent": Out("clip", "latent"), "audio_vae": CODERS["audio_vae"], "audio": Out("sound", "AUDIO")}
    return _uniavgen(
        "uniavgen_lip_sync",
        "Hello, yes, moon.",
        picture=Out("image", "IMAGE"),
        latent=Out("given", "LATENT"),
        positive=Out("text", "CONDITIONING"),
        media={"image": _image(), "sound": _sound(), "given": Node("HarmonyGivenAudio", SAMPLING, given)},
        note=Note("Your own sound", note, RESULT),
    )


def uniavgen_film_sound() -> Graph:
    note = (
        "Choose a film of somebody who speaks, and write what they say. The film is kept, its first five seconds get a "
        f"sound, and it comes out at its own size and rate.\n\n{FILES}\n\n{SCALES}"
    )
    film = Out("film", "VIDEO")
    given = {"latent": Out("clip", "latent"), "vae": CODERS["vae"], "video": film}
    return _uniavgen(
        "uniavgen_film_sound",
        "Hello, yes, moon.",
        picture=Out("pictures", "images"),
        latent=Out("given", "LATENT"),
        positive=Out("text", "CONDITIONING"),
        media={
            "film": Node("LoadVideo", MODEL, {"file": "harmony_example.mp4"}),
            "pictures": Node("GetVideoComponents", MODEL, {"video": film}),
            "given": Node("HarmonyGivenVideo", SAMPLING, given),
        },
        note=Note("A film's sound", note, RESULT),
    )
