"""Video, sound and pictures: files to arrays, arrays to the lengths of a clip, arrays to MP4."""

from .clips import AudioClip, MediaError, VideoClip, check_size, clean_samples
from .colour import over_background
from .fit import (
    fit_audio,
    fit_channels,
    fit_count,
    fit_image,
    fit_length,
    fit_reference_audio,
    fit_reference_image,
    fit_video,
    on_frames,
    resample,
    resample_channels,
)
from .images import read_image, read_picture
from .mix import loudness_notes, to_mono
from .read import has_audio, own_frames, read_audio, read_video
from .write import AAC_RATES, encode_video, writable_sound, write_video

__all__ = [
    "AAC_RATES",
    "AudioClip",
    "MediaError",
    "VideoClip",
    "check_size",
    "clean_samples",
    "encode_video",
    "fit_audio",
    "fit_channels",
    "fit_count",
    "fit_image",
    "fit_length",
    "fit_reference_audio",
    "fit_reference_image",
    "fit_video",
    "has_audio",
    "loudness_notes",
    "on_frames",
    "over_background",
    "own_frames",
    "read_audio",
    "read_image",
    "read_picture",
    "read_video",
    "resample",
    "resample_channels",
    "to_mono",
    "writable_sound",
    "write_video",
]
