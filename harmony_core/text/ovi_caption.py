"""Ovi's one caption for picture and sound: speech between `<S>` and `<E>`, the sound described at its end.

Its 720 model wants the description as `<AUDCAP>...<ENDAUDCAP>`, its 960 models as `Audio: ...` (`ovi` and `ovi-suffix`
in a config's `prompt_format`). Text that already carries tags is brought to the checkpoint's own form.
"""

from __future__ import annotations

import re

from ..quoting import quoted

SPEECH_START, SPEECH_END = "<S>", "<E>"
AUDIO_START, AUDIO_END = "<AUDCAP>", "<ENDAUDCAP>"
SUFFIX = "Audio: "


def speech(text: str) -> str:
    """Words as they stand in a caption where they are spoken."""
    return f"{SPEECH_START}{text.strip()}{SPEECH_END}"


def caption(prompt: str, audio_prompt: str, transcript: str, prompt_format: str) -> str:
    """The caption that both streams read.

    Args:
        prompt: what is seen; may hold the tags itself, speech most of all, where it is spoken.
        audio_prompt: what is heard; "" where `prompt` says it in tags.
        transcript: spoken words, put after the picture's description; "" where `prompt` has them in tags.
        prompt_format: `ovi` or `ovi-suffix`.

    Raises:
        ValueError: tags that do not pair, or the same thing given twice.
    """
    _check_pairs(prompt, SPEECH_START, SPEECH_END)
    _check_pairs(prompt, AUDIO_START, AUDIO_END)
    for given, tag, name in ((transcript, SPEECH_START, "transcript"), (audio_prompt, AUDIO_START, "audio_prompt")):
        if given and tag in prompt:
            raise ValueError(f"The prompt has {tag} and {name} is {quoted(given)}; give it in one place only.")
    pattern = f"{re.escape(AUDIO_START)}(.*?){re.escape(AUDIO_END)}"
    heard = " ".join([part.strip() for part in re.findall(pattern, prompt, re.DOTALL)] or [audio_prompt.strip()])
    parts = [" ".join(re.sub(pattern, " ", prompt, flags=re.DOTALL).split())]
    if transcript.strip():
        parts.append(speech(transcript))
    if heard:
        parts.append(f"{AUDIO_START}{heard}{AUDIO_END}" if prompt_format == "ovi" else SUFFIX + heard)
    return " ".join(part for part in parts if part)


def _check_pairs(prompt: str, start: str, end: str) -> None:
    tags = re.findall(f"{re.escape(start)}|{re.escape(end)}", prompt)
    if tags != [start, end] * (len(tags) // 2):
        raise ValueError(f"{start} and {end} do not pair in the prompt {quoted(prompt)}; close each {start} by {end}.")
