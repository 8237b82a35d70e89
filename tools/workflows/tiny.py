"""The workflows of the built-in model: their nodes, links and the values that differ from the nodes' defaults."""

from __future__ import annotations

from typing import Any

from harmony_core.checkpoints import describe

from .graph import CLIP, GUIDANCE, MODEL, RESULT, SAMPLING, Graph, Node, Note, Out, sampling
from .seeds import shipped_seed
from .shipped import BUILT_IN

CONFIG = describe("harmony-tiny")["config"]

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


def _tiny(prefix: str, text: dict[str, str], **clip: Any) -> Graph:
    """The built-in model from words to a saved clip."""
    return {
        "load": Node("HarmonyCheckpointLoader", MODEL, {"checkpoint": BUILT_IN}),
        "text": Node("HarmonyTextEncode", CLIP, {"clip": Out("load", "clip")} | text),
        "no_text": Node("HarmonyTextEncode", CLIP, {"clip": Out("load", "clip"), "video_caption": ""}),
        "clip": Node("HarmonyClip", CLIP, _clip(**clip)),
        **sampling(
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


def simplest() -> Graph:
    note = (
        "Press **Run**. *Harmony Sampler* lays out the clip, makes it and decodes it; everything else is a default.\n\n"
        "Other words in *Harmony Text Encode*, another seed, or both sync scales at 1.0 to hear and see what they do."
    )
    sampler = {
        "model": Out("load", "model"),
        "positive": Out("text", "CONDITIONING"),
        "vae": Out("load", "vae"),
        "audio_vae": Out("load", "audio_vae"),
        "seed": shipped_seed(),
    }
    saved = {"video": Out("sample", "video"), "filename_prefix": "video/harmony_simplest"}
    return {
        "load": Node("HarmonyCheckpointLoader", MODEL, {"checkpoint": BUILT_IN}),
        "text": Node("HarmonyTextEncode", MODEL, {"clip": Out("load", "clip")} | BALL),
        "sample": Node("HarmonySampler", SAMPLING, sampler),
        "save": Node("SaveVideo", RESULT, saved),
        "note": Note("Four nodes", note),
    }


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
            "seed": shipped_seed(),
        },
    )
    graph["decode"].inputs["latent"] = Out("sample", "LATENT")
    graph["save"].inputs["filename_prefix"] = "video/harmony_beginner"
    note = (
        "Seven nodes: press **Run**.\n\nOther words, another seed, or both sync scales at 1.0 to hear and see what "
        "they do. *text_to_audio_video* is the same with every part of the sampler open."
    )
    graph["note"] = Note("All in one", note)
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
            MODEL,
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
            MODEL,
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
        return Node("HarmonyReferenceAudio", MODEL, {"conditioning": Out(text, "CONDITIONING")} | inputs)

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
    graph["noise"].keeps_seed = True
    again = {**graph["sample"].inputs, "noise": Out("noise2", "NOISE"), "latent_image": Out("given", "LATENT")}
    return graph | {
        "given": Node("HarmonyGivenVideo", MODEL, {"latent": Out("sample", "output"), "vae": Out("load", "vae")}),
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
