"""How speech sounds (DNSMOS) and whether it says the transcript (WER, by pocketsphinx or Whisper)."""

from __future__ import annotations

import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...toyworld.measures.words import error_rate
from ...toyworld.words import WORDS
from .base import SPEECH_RATE, FilmClip, Measure, ScorerMissingError

if TYPE_CHECKING:
    from pocketsphinx import Decoder  # pyright: ignore[reportMissingImports]


class DnsmosScorer:
    """DNSMOS of Microsoft's DNS challenge, by the package speechmos, whose models come with it.

    Raises:
        ScorerMissingError: the package, or one of those that it needs and does not declare.
    """

    title = "DNSMOS"
    measures = (
        Measure("dnsmos_ovrl", "", "higher", "DNSMOS P.835, 1 to 5: how good the speech sounds as a whole"),
        Measure("dnsmos_sig", "", "higher", "DNSMOS P.835, 1 to 5: the voice"),
        Measure("dnsmos_bak", "", "higher", "DNSMOS P.835, 1 to 5: what is behind the voice"),
    )

    def __init__(self) -> None:
        try:
            from speechmos import dnsmos  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise ScorerMissingError(
                f"pip install speechmos librosa onnxruntime requests ({error.name} is not there)"
            ) from error
        self.run = dnsmos.run

    def __call__(self, clip: FilmClip) -> dict[str, float]:
        found = self.run(clip.speech(), sr=SPEECH_RATE)
        return {f"dnsmos_{name}": float(found[f"{name}_mos"]) for name in ("ovrl", "sig", "bak")}


class PocketsphinxScorer:
    """Word error rate by pocketsphinx's own English model.

    A transcript of the embedded checkpoint's words alone is heard with a grammar of those sixteen; any other with the
    package's language model. It knows the short synthetic words of the toy world badly: on rendered clips, where all
    are right, its error rate is .74 (20 faces), so compare there, and trust
    `toyworld.measures.words`.

    Raises:
        ScorerMissingError: the package.
    """

    title = "WER (pocketsphinx)"
    measures = (Measure("wer_pocketsphinx", "", "lower", "word error rate by pocketsphinx, English; 0 is all right"),)

    def __init__(self) -> None:
        try:
            from pocketsphinx import Decoder, get_model_path  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise ScorerMissingError("pip install pocketsphinx") from error
        self.any = Decoder(loglevel="FATAL")
        acoustics, words = get_model_path("en-us/en-us"), get_model_path("en-us/cmudict-en-us.dict")
        self.embedded = Decoder(hmm=acoustics, dict=words, lm=None, loglevel="FATAL")
        grammar = f"#JSGF V1.0; grammar words; public <words> = ({' | '.join(WORDS)})+;"
        self.embedded.add_jsgf_string("words", grammar)
        self.embedded.activate_search("words")

    def __call__(self, clip: FilmClip) -> dict[str, float]:
        wanted = spoken_units(clip.said())
        decoder = self.embedded if set(wanted) <= set(WORDS) else self.any
        return {"wer_pocketsphinx": error_rate(spoken_units(self._heard(decoder, clip.speech())), wanted)}

    @staticmethod
    def _heard(decoder: Decoder, samples_N: np.ndarray) -> str:
        decoder.start_utt()
        decoder.process_raw((samples_N * 32767).astype(np.int16).tobytes(), full_utt=True)
        decoder.end_utt()
        found = decoder.hyp()
        return "" if found is None else found.hypstr


class WhisperScorer:
    """Word error rate by a Whisper checkpoint of transformers; of Chinese, the error rate of characters.

    Args:
        folder: as `save_pretrained` writes it.

    Raises:
        ScorerMissingError: no such folder or package.
    """

    title = "WER (Whisper)"
    measures = (
        Measure("wer_whisper", "", "lower", "word error rate by Whisper (Chinese: of characters); 0 is all right"),
    )

    def __init__(self, folder: Path | None, device: str) -> None:
        if folder is None:
            raise ScorerMissingError("give --whisper FOLDER with a checkpoint of transformers")
        if not (folder / "config.json").is_file():
            raise ScorerMissingError(f"{folder} has no config.json; give the folder of a checkpoint of transformers")
        try:
            from transformers import pipeline
        except ImportError as error:
            raise ScorerMissingError("pip install transformers") from error
        self.recogniser: Any = pipeline("automatic-speech-recognition", model=str(folder), device=device)

    def __call__(self, clip: FilmClip) -> dict[str, float]:
        wanted = spoken_units(clip.said())
        heard = self.recogniser({"raw": clip.speech(), "sampling_rate": SPEECH_RATE})
        return {"wer_whisper": error_rate(spoken_units(heard["text"]), wanted)}


def spoken_units(text: str) -> tuple[str, ...]:
    """Words in lower case without punctuation; of Chinese, characters."""
    kept = "".join(
        f" {c} " if "\u4e00" <= c <= "\u9fff" else c if unicodedata.category(c)[0] in "LMN" or c == "'" else " "
        for c in text.lower()
    )
    return tuple(kept.split())
