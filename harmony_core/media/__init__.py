"""Video, sound and pictures: files to arrays, arrays to the lengths of a clip, arrays to MP4."""

from .clips import MAX_SIDE, AudioClip, MediaError, VideoClip, check_size
from .fit import fit_audio, fit_image, fit_reference_image, fit_video, resample
from .images import read_image, read_picture
from .read import has_audio, own_frames, read_audio, read_video
from .write import encode_video, write_video

__all__ = [
    "MAX_SIDE",
    "AudioClip",
    "MediaError",
    "VideoClip",
    "check_size",
    "encode_video",
    "fit_audio",
    "fit_image",
    "fit_reference_image",
    "fit_video",
    "has_audio",
    "own_frames",
    "read_audio",
    "read_image",
    "read_picture",
    "read_video",
    "resample",
    "write_video",
]
