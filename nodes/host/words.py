"""What models read of the words in a conditioning."""

from __future__ import annotations

import logging
from functools import lru_cache

from torch import Tensor

from ...harmony_core.config import SpeechConfig
from ...harmony_core.quoting import quoted
from ...harmony_core.text.transcripts import read_across, tokenize_transcript

logger = logging.getLogger(__name__)


@lru_cache(maxsize=64)
def read_transcript(text: str, speech: SpeechConfig | None, language: str = "en", spoken: str = "") -> Tensor | None:
    """Token ids, None for a model that reads none. What goes unread is logged, once a text.

    Args:
        language, spoken: of a transcript that is read across; see `read_across`.
    """
    if speech is None:
        if text.strip():
            logger.warning(
                "Harmony: this model reads no transcript, so its words are not spoken. Ovi reads them in the caption: "
                "set prompt_format of Harmony Text Encode to ovi."
            )
        return None
    if speech.reading == "cross":
        return read_across(text, speech, language, spoken)
    tokens, notes = tokenize_transcript(text, speech)
    for note in notes:
        logger.warning("Harmony: %s", note)
    return tokens


@lru_cache(maxsize=64)
def warn_of_caption(caption: str) -> None:
    """Once a text. No caption is no fault."""
    if not caption.strip():
        return
    logger.warning(
        "Harmony: this model reads a transcript in the place of an audio caption, so %s changes nothing; empty it.",
        quoted(caption),
    )
