"""LSE-C and LSE-D (Wav2Lip's metrics) as the package syncnet-python computes them."""

from __future__ import annotations

import contextlib
import io
import shutil
from pathlib import Path

from .base import FilmClip, Measure, NotMeasuredError, ScorerMissingError


class SyncNetScorer:
    """SyncNet's confidence and least distance of a talking face that is tracked for two seconds or more.

    Args:
        weights: folder of syncnet_v2.model and sfd_face.pth.

    Raises:
        ScorerMissingError: no such files, package, or ffmpeg on the PATH (the package runs it).
    """

    title = "LSE-C, LSE-D (SyncNet)"
    measures = (
        Measure("lse_c", "", "higher", "SyncNet's confidence that lips and speech belong together"),
        Measure("lse_d", "", "lower", "SyncNet's distance of lips and speech at the best offset"),
    )
    files = ("sfd_face.pth", "syncnet_v2.model")

    def __init__(self, weights: Path | None, device: str) -> None:
        if weights is None:
            raise ScorerMissingError(f"give --syncnet FOLDER with {' and '.join(self.files)}")
        absent = [name for name in self.files if not (weights / name).is_file()]
        if absent:
            raise ScorerMissingError(f"{weights} has no {' and no '.join(absent)}")
        if shutil.which("ffmpeg") is None:
            raise ScorerMissingError("the package syncnet-python needs ffmpeg on the PATH")
        try:
            from syncnet_python import SyncNetPipeline  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise ScorerMissingError("pip install syncnet-python") from error
        s3fd, syncnet = (str(weights / name) for name in self.files)
        self.pipeline = SyncNetPipeline({"s3fd_weights": s3fd, "syncnet_weights": syncnet}, device=device)

    def __call__(self, clip: FilmClip) -> dict[str, float]:
        clip.sound()
        with contextlib.redirect_stdout(io.StringIO()):  # it prints every frame
            offsets, _, _, confidence, distance, *_ = self.pipeline.inference(str(clip.path.resolve()))
        if not offsets:
            raise NotMeasuredError("no face is tracked for two seconds, a hundred pixels wide at 25 fps")
        return {"lse_c": float(confidence), "lse_d": float(distance)}
