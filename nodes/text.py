"""Nodes that turn words into conditioning."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..harmony_core.config import PROMPT_FORMATS
from ..harmony_core.text.transcripts import LANGUAGES
from .host.notes import show
from .host.text_encoder import encode_captions, unread_words


class HarmonyTextEncode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HarmonyTextEncode",
            display_name="Harmony Text Encode",
            category="Harmony",
            description="What to see, what to hear, and which words to say.",
            search_aliases=[
                "harmony prompt",
                "text to video",
                "audio prompt",
                "transcript",
                "speech",
                "lyrics",
                "提示词",
            ],
            inputs=[
                io.Clip.Input("clip"),
                io.String.Input(
                    "video_caption",
                    multiline=True,
                    dynamic_prompts=True,
                    tooltip="What the video shows. The built-in model knows balls on wood, metal, rubber and glass, "
                    "and talking faces.",
                ),
                io.String.Input(
                    "audio_caption",
                    multiline=True,
                    dynamic_prompts=True,
                    tooltip="What is heard: sounds, or the kind of voice.",
                ),
                io.String.Input(
                    "transcript",
                    multiline=True,
                    default="",
                    optional=True,
                    tooltip="The words that are spoken, empty for none.",
                ),
                io.Combo.Input(
                    "prompt_format",
                    options=list(PROMPT_FORMATS),
                    default=PROMPT_FORMATS[0],
                    optional=True,
                    advanced=True,
                    tooltip="separate: a caption for each stream, the words beside them (Harmony). ovi: all three as "
                    "one tagged caption that both streams read (Ovi 720). ovi-suffix: the same for Ovi 960.",
                ),
                io.Combo.Input(
                    "language",
                    options=list(LANGUAGES),
                    default=LANGUAGES[0],
                    optional=True,
                    advanced=True,
                    tooltip="Of the transcript, for UniAVGen: en is read letter by letter, zh as syllables. Other "
                    "models tell by the letters.",
                ),
            ],
            outputs=[io.Conditioning.Output()],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        clip: Any,
        video_caption: str,
        audio_caption: str,
        transcript: str = "",
        prompt_format: str = PROMPT_FORMATS[0],
        language: str = LANGUAGES[0],
    ) -> io.NodeOutput:
        if clip is None:  # core's Load Checkpoint gives none for Harmony files
            raise ValueError(
                "There is no text encoder in what is connected to the clip input; take the clip of Harmony Checkpoint "
                "Loader (core's Load Checkpoint does not find it), or core's Load CLIP."
            )
        show(cls.hidden.unique_id, unread_words(clip, video_caption, audio_caption))
        return io.NodeOutput(encode_captions(clip, video_caption, audio_caption, transcript, prompt_format, language))
