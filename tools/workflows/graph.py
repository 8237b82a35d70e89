"""What a workflow is made of, before it is laid out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from .seeds import shipped_seed

# one column of the page each, left to right
MODEL, CLIP, GUIDANCE, SAMPLING, RESULT = "Model and media", "What to make", "Guidance", "Sampling", "Result"


@dataclass(frozen=True)
class Out:
    """An output of another node, by the node's key and the output's name."""

    node: str
    name: str


@dataclass(frozen=True)
class Download:
    """A weight file, the folder of `models` that it belongs to, and the repository on the Hugging Face hub."""

    name: str
    folder: str
    repository: str
    path: str = ""  # of its folder there
    published: str = ""  # its name there, if another

    @property
    def url(self) -> str:
        return f"https://huggingface.co/{self.repository}/resolve/main/{self.path}{self.published or self.name}"


@dataclass
class Node:
    """A node of a graph. Inputs that are not named keep their default."""

    type: str
    column: str
    inputs: dict[str, Any] = field(default_factory=dict)
    downloads: tuple[Download, ...] = ()  # the page offers them when they are missing
    keeps_seed: bool = False  # the page does not draw another seed after a run


@dataclass
class Note:
    """Markdown beside the nodes."""

    title: str
    text: str
    column: str = MODEL


Graph = dict[str, Node | Note]


def sampling(model: Out, positive: Out, latent: Out, anchors: Out, steps: int, **guidance: Any) -> Graph:
    """Core's sampling nodes around Harmony SyncCFG."""
    guided = {"model": model, "positive": positive, "anchors": anchors} | guidance
    return {
        "guider": Node("HarmonySyncCFG", GUIDANCE, guided),
        "noise": Node("RandomNoise", GUIDANCE, {"noise_seed": shipped_seed()}),
        "euler": Node("KSamplerSelect", GUIDANCE, {"sampler_name": "euler"}),
        "steps": Node("BasicScheduler", GUIDANCE, {"model": model, "scheduler": "simple", "steps": steps}),
        "sample": Node(
            "SamplerCustomAdvanced",
            SAMPLING,
            {
                "noise": Out("noise", "NOISE"),
                "guider": Out("guider", "GUIDER"),
                "sampler": Out("euler", "SAMPLER"),
                "sigmas": Out("steps", "SIGMAS"),
                "latent_image": latent,
            },
        ),
    }
