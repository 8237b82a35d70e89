"""Video, sound and pictures: files to arrays, arrays to the lengths of a clip, arrays to MP4."""

from .clips import MAX_SIDE, AudioClip, MediaError, VideoClip
from .fit import fit_audio, fit_image, fit_reference_image, fit_video, resample
from .read import has_audio, read_audio, read_image, read_video
from .write import check_size, write_video

__all__ = [
    "MAX_SIDE",
    "AudioClip",
    "MediaError",
    "VideoClip",
    "check_size",
    "fit_audio",
    "fit_image",
    "fit_reference_image",
    "fit_video",
    "has_audio",
    "read_audio",
    "read_image",
    "read_video",
    "resample",
    "write_video",
]
