"""A user's own graph, in which a comparison of guidances puts other words, seeds, steps and scales."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harmony_core.benchmarks.guidance import Way

Prompt = dict[str, Any]

# Inputs that hold each guidance's scale, by what the guider is.
SYNC = {"sync": ("video_sync_scale", "audio_sync_scale")}
TEXT = {"text": ("video_text_scale", "audio_text_scale")}
GUIDERS: dict[str, dict[str, tuple[str, ...]]] = {
    "HarmonySyncCFG": {**TEXT, **SYNC, "isolated": ("isolation_scale",)},
    "HarmonySampler": {**TEXT, **SYNC},
    "CFGGuider": {"text": ("cfg",)},
}
# What else they can do, off: it costs passes that a way does not count.
NEGATIVES = {"video_negative_scale": 1.0, "audio_negative_scale": 1.0}
OFF: dict[str, dict[str, Any]] = {
    "HarmonySyncCFG": {
        **NEGATIVES,
        "skip_layer_scale": 1.0,
        "video_reference_scale": 1.0,
        "audio_reference_scale": 1.0,
        "sync_start": 0.0,
        "sync_stop": 1.0,
        "sync_interval": 1,
    },
    "HarmonySampler": NEGATIVES,
    "CFGGuider": {},
}
SAMPLERS = "SamplerCustomAdvanced", "HarmonySampler"
ONE_PREDICTION_A_STEP = [  # counted, each over seven steps
    "ddim",
    "ddpm",
    "deis",
    "dpmpp_2m",
    "dpmpp_2m_sde",
    "dpmpp_2m_sde_gpu",
    "dpmpp_2m_sde_heun",
    "dpmpp_3m_sde",
    "dpmpp_3m_sde_gpu",
    "er_sde",
    "euler",
    "euler_ancestral",
    "gradient_estimation",
    "ipndm",
    "ipndm_v",
    "lcm",
    "lms",
    "res_multistep",
    "res_multistep_ancestral",
    "sa_solver",
    "uni_pc",
]
GIVING = "HarmonyGivenAudio", "HarmonyGivenVideo"
CAPTION, TEXT_INPUTS = "video_caption", ("text", "prompt")


@dataclass(frozen=True)
class GuidedGraph:
    """An API-format graph and the ids of the nodes that get other values: `sampler`, `guider`, `noise` (the seed),
    `schedule` (the steps), `text` (the words). In Harmony Sampler four of them are one."""

    prompt: Prompt
    sampler: str
    guider: str
    noise: str
    schedule: str
    text: str

    @classmethod
    def read(cls, path: Path) -> GuidedGraph:
        """Raises ValueError for no API-format graph, or as `of`."""
        try:
            prompt = json.loads(path.read_text(encoding="utf-8-sig"))
            nodes = prompt.values() if isinstance(prompt, dict) else ()
            is_graph = bool(nodes) and all("class_type" in node and "inputs" in node for node in nodes)
        except (json.JSONDecodeError, UnicodeDecodeError, TypeError):
            is_graph = False
        if not is_graph:
            raise ValueError(f"{path} is no graph in the API format; save it by Workflow > Export (API).")
        return cls.of(prompt)

    @classmethod
    def of(cls, prompt: Prompt) -> GuidedGraph:
        """Raises ValueError that names the node or input that a comparison lacks, and the fix."""
        for key, node in prompt.items():
            if node["class_type"] in GIVING:
                raise ValueError(
                    f"{_named(prompt, key)} gives the clip a sound or a video, but what is compared is made of words "
                    "alone; take it out."
                )
        samplers = [key for key, node in prompt.items() if node["class_type"] in SAMPLERS]
        if len(samplers) != 1:
            found = ", ".join(_named(prompt, key) for key in samplers) or "none"
            raise ValueError(f"A comparison needs one {' or '.join(SAMPLERS)}, but the graph has {found}.")
        (sampler,) = samplers
        if prompt[sampler]["class_type"] == "HarmonySampler":
            return cls(prompt, sampler, sampler, sampler, sampler, _text_node(prompt, sampler))
        guider, _ = _link(prompt, sampler, "guider", "Harmony SyncCFG")
        if prompt[guider]["class_type"] not in GUIDERS:
            raise ValueError(
                f"{_named(prompt, guider)} is a guider whose scales are unknown here; put Harmony SyncCFG in its "
                "place, which does text CFG, SyncCFG and isolation (LTX's modality guidance)."
            )
        noise = _with_input(prompt, sampler, "noise", "noise_seed", "RandomNoise")
        schedule = _with_input(prompt, sampler, "sigmas", "steps", "BasicScheduler, LTXVScheduler or HarmonyScheduler")
        solver = _with_input(prompt, sampler, "sampler", "sampler_name", "KSamplerSelect")
        name = prompt[solver]["inputs"]["sampler_name"]
        if name not in ONE_PREDICTION_A_STEP:
            raise ValueError(
                f"{_named(prompt, solver)} is {name}, which is not known to ask the model once a step, so passes could "
                f"not be counted; choose one of {', '.join(ONE_PREDICTION_A_STEP)}."
            )
        return cls(prompt, sampler, guider, noise, schedule, _text_node(prompt, guider))

    def lacks(self, way: Way) -> str:
        """What the graph lacks to be guided this way, and the fix; empty for nothing."""
        guider, text = self.prompt[self.guider], self.prompt[self.text]
        named = _named(self.prompt, self.guider)
        for name, video, audio in way.scales:
            inputs = GUIDERS[guider["class_type"]].get(name, ())
            if not inputs:
                return f"{named} has no input for the scale of {name}; put Harmony SyncCFG in its place."
            if len(inputs) == 1 and video != audio:
                return f"{named} has one scale of {name} for both streams; give one, not {video:g} and {audio:g}."
            if name == "text" and "negative" not in guider["inputs"] and CAPTION not in text["inputs"]:
                return f"{named} has no negative, which text guidance pushes away from; connect one."
        return ""

    def clip(self, values: Mapping[str, Any], way: Way, steps: int) -> Prompt:
        """The graph that makes one clip.

        Args:
            values: `prompt` and `seed`, and where there are any `audio_prompt`, `transcript` and `language`.
        """
        made = self.brief(steps)
        guider = made[self.guider]
        inputs = GUIDERS[guider["class_type"]]
        guider["inputs"] |= OFF[guider["class_type"]] | {name: 1.0 for names in inputs.values() for name in names}
        for guidance, *scales in way.scales:
            guider["inputs"] |= dict(zip(inputs[guidance], scales, strict=False))  # one input is for both
        noise = made[self.noise]["inputs"]
        noise["noise_seed" if "noise_seed" in noise else "seed"] = values["seed"]
        text = made[self.text]["inputs"]
        text |= _words(text, values)
        return made

    def brief(self, steps: int) -> Prompt:
        """The graph as it is, in this many steps."""
        made = copy.deepcopy(self.prompt)
        made[self.schedule]["inputs"]["steps"] = steps
        return made


def _words(inputs: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, str]:
    """What the text node gets: captions and transcript apart, or one text of all three."""
    prompt, sound, spoken = (str(values.get(name) or "") for name in ("prompt", "audio_prompt", "transcript"))
    if CAPTION in inputs:
        words = {CAPTION: prompt, "audio_caption": sound, "transcript": spoken}
        return words | ({"language": values["language"]} if values.get("language") else {})
    (name,) = (name for name in TEXT_INPUTS if name in inputs)
    return {name: " ".join(filter(None, (prompt, sound, f'The words spoken: "{spoken}"' if spoken else "")))}


def _text_node(prompt: Prompt, guider: str) -> str:
    """The node that holds the words of the guider's `positive`. Raises ValueError for none or several."""
    waiting, seen, found = [_link(prompt, guider, "positive", "text encoder")], set(), []
    while waiting:
        key, slot = waiting.pop()
        if (key, slot) in seen:
            continue
        seen.add((key, slot))
        inputs = prompt[key]["inputs"]
        if any(name in inputs for name in (CAPTION, *TEXT_INPUTS)):
            found.append(key)
            continue
        links = {name: value for name, value in inputs.items() if _is_link(prompt, value)}
        if {"positive", "negative"} <= links.keys():  # both go through, the positive one first
            links = {"positive": links["positive"] if slot == 0 else links["negative"]}
        waiting += links.values()
    if len(set(found)) != 1:
        nodes = ", ".join(_named(prompt, key) for key in found) or "none"
        raise ValueError(
            f"The words of {_named(prompt, guider)}'s positive must stand in one node with an input {CAPTION}, "
            f"{' or '.join(TEXT_INPUTS)} (Harmony Text Encode, CLIP Text Encode), but the graph has {nodes}."
        )
    return found[0]


def _is_link(prompt: Prompt, value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and isinstance(value[0], str) and value[0] in prompt


def _link(prompt: Prompt, key: str, name: str, wanted: str) -> list[Any]:
    """What an input is connected to. Raises ValueError for nothing."""
    value = prompt[key]["inputs"].get(name)
    if not _is_link(prompt, value):
        raise ValueError(f"{name} of {_named(prompt, key)} is not connected; connect {wanted}.")
    return value


def _with_input(prompt: Prompt, key: str, name: str, needed: str, wanted: str) -> str:
    """The node behind an input, which has an input of its own. Raises ValueError."""
    node, _ = _link(prompt, key, name, wanted)
    if needed not in prompt[node]["inputs"]:
        raise ValueError(
            f"{_named(prompt, node)}, behind {name} of {_named(prompt, key)}, has no input {needed}, which a "
            f"comparison sets; put {wanted} in its place."
        )
    return node


def _named(prompt: Prompt, key: str) -> str:
    return f"node {key} ({prompt[key]['class_type']})"
