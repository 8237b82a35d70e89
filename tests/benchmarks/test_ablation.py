"""The ablation: what its rows differ in, a whole small one, and what it says of its numbers."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from harmony_core.benchmarks.ablation import AblationOptions
from harmony_core.benchmarks.ablation_charts import CLIPS, LOSSES, ROW, changes_chart, steps_chart
from harmony_core.benchmarks.ablation_rows import LADDER, LOSS_METRICS, QUESTIONS, ROWS, SMALL
from harmony_core.benchmarks.ablation_tables import differences, interval, markdown, summary
from harmony_core.benchmarks.charts import COLOURS
from harmony_core.benchmarks.hard_quality import KINDS, METRICS, recorded_elsewhere, score_hard
from harmony_core.benchmarks.quality import ground_truth, held_out, read_rows, shuffled
from harmony_core.presets import preset
from harmony_core.toyworld import HARD, UNSEEN, FaceScene, HardScene
from harmony_core.toyworld.measures.hard import room_heard
from harmony_core.toyworld.measures.traits import nearest_voice
from harmony_core.toyworld.rooms import ROOMS
from harmony_core.training.sections import ObjectiveConfig
from harmony_core.training.tasks import task_rows

TINY = ("--seeds", 1, "--steps", 4, "--batch-size", 2, "--train-clips", 6, "--scenes", 4, "--loss-clips", 2)
FIRST = ("--branch-steps", 1, "--video-steps", 1)


def test_rows_see_the_same_joint_samples_and_cts_once_more_the_same_compute() -> None:
    tasks = {name: Counter(row.role for row in _rows_of(name)) for name in LADDER}
    for name in ("global", "framewise", "rope"):
        assert tasks[name] == {"joint": 8}
    assert tasks["cts"] == {"joint": 8, "audio_given": 8, "video_given": 8}
    assert tasks["cts_equal_compute"] == {"joint": 6, "audio_given": 1, "video_given": 1}
    assert tasks["audio_driven"] == {"audio_given": 8}


def _rows_of(name: str) -> list:
    return task_rows([(True, True)] * 8, ObjectiveConfig(**ROWS[name].objective))


def test_each_row_adds_one_part() -> None:
    models = {name: preset("harmony-tiny").with_(**SMALL | row.model).to_dict() for name, row in ROWS.items()}
    assert models["global"]["interaction"] == "global"
    assert {key for key in models["rope"] if models["rope"][key] != models["framewise"][key]} == {"rope_alignment"}
    assert models["rope"] == models["cts"] == models["cts_equal_compute"] == models["audio_driven"]


def test_each_question_changes_one_thing_of_the_row_it_is_asked_of() -> None:
    models = {name: preset("harmony-tiny").with_(**SMALL | row.model).to_dict() for name, row in ROWS.items()}
    changed = {
        name: {key for key, value in models[name].items() if value != models["cts_equal_compute"][key]}
        for name in QUESTIONS
    }
    assert changed == {
        "no_style": {"style_alignment", "style_pooling"},
        "ovi": {"interaction", "rope_alignment", "cross_rope_scale", "audio_rope_scale"}
        | {"style_alignment", "style_pooling"},
        "not_isolated": {"driver_isolation"},
        "index": {"rope_alignment"},
        "window_0": {"a2v_window", "v2a_window"},
        "window_3": {"a2v_window", "v2a_window"},
        "three_pass_equal_time": set(),
        "stopped_drivers": set(),
    }
    assert models["ovi"]["audio_rope_scale"] == 12.5 / 4 / 25  # video latents an audio latent
    assert Counter(row.role for row in _rows_of("three_pass_equal_time")).total() == 24
    assert ROWS["three_pass_equal_time"].steps(1000) == 400


def test_a_small_ablation_is_whole_goes_on_and_can_be_rerun(harmony, tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    code, printed, err = harmony("bench", "ablation", "-o", folder, "--row", "audio_driven", *TINY, *FIRST)
    assert code == 0, err
    assert "ground_truth" in printed
    lines = read_rows([folder / "ablation.csv"])
    assert {line["step"] for line in lines if line["row"] == "audio_driven"} == {"1", "2", "3", "4"}
    made = {line["step"] for line in lines if (line["row"], line["metric"]) == ("audio_driven", "mouth_r")}
    assert made == {"1", "2", "3", "4"}
    assert {line["metric"] for line in lines} == {*METRICS, *LOSS_METRICS} - {"unseen_answered"}
    assert (folder / "ablation.png").exists()
    assert (folder / "ablation_steps.png").exists()
    checkpoint = folder / "audio_driven-0" / "run" / "checkpoint.safetensors"
    written = checkpoint.stat().st_mtime_ns
    assert harmony("bench", "ablation", "-o", folder, "--row", "audio_driven", *TINY, *FIRST)[0] == 0
    assert checkpoint.stat().st_mtime_ns == written
    again = tmp_path / "again"
    code, _, err = harmony("train", "-c", folder / "audio_driven-0" / "config.yaml", "-o", again)
    assert code == 0, err
    assert (again / "checkpoint.safetensors").read_bytes()[-4096:] == checkpoint.read_bytes()[-4096:]


def test_truth_and_chance_are_told_apart_and_drawn() -> None:
    scenes = held_out(12, 0.48, HARD, KINDS)
    rows = []
    for name, pairs in (("ground_truth", ground_truth(scenes)), ("shuffled", shuffled(scenes))):
        for scene, clip in pairs:
            for metric, value in score_hard(scene, clip).items():
                where = {"row": name, "seed": 0, "step": 0, "case": "", "scene": scene.seed}
                rows.append(where | {"metric": metric, "value": value})
    rows += [row | {"row": "cts", "step": 8, "case": "joint"} for row in rows if row["row"] == "ground_truth"]
    lines = summary(rows)
    means = {(line["row"], line["metric"]): line["mean"] for line in lines}
    assert means["ground_truth", "ball_iou"] > 0.9
    assert means["shuffled", "ball_iou"] < 0.4
    assert means["ground_truth", "room_agrees"] > 0.9
    assert means["ground_truth", "voice"] == 1
    assert means["shuffled", "voice"] < 0.5
    assert means["ground_truth", "mouth_r"] > means["shuffled", "mouth_r"] + 0.3
    text = markdown(lines, differences(rows))
    assert "equal joint samples" in text
    assert "ground_truth" in text


def test_a_dubbed_film_s_reference_is_of_its_voice_and_from_another_room() -> None:
    for held in held_out(12, 0.48, HARD, KINDS):
        scene, moved = held.clip.scene, recorded_elsewhere(held)
        assert isinstance(scene, HardScene)
        assert moved.clip is held.clip
        assert room_heard(held.reference) == scene.room
        assert room_heard(moved.reference) in set(ROOMS) - {scene.room}
        if isinstance(scene.parts[0], FaceScene):
            assert nearest_voice(moved.reference) == scene.parts[0].voice


def test_scenes_with_a_sound_from_outside_are_scored_for_it() -> None:
    scenes = held_out(4, 0.48, UNSEEN, KINDS)
    scored = [score_hard(scene, clip) for scene, clip in ground_truth(scenes)]
    assert [each.get("unseen_answered") for each in scored] == [0, None, 0, None]
    assert {name for each in scored for name in each} == set(METRICS)


def test_changes_are_taken_scene_by_scene_and_drawn() -> None:
    rng = np.random.default_rng(0)
    scenes = rng.uniform(0.3, 0.9, 50)  # that differ far more than the rows do
    rows = []
    for row, shift in (("rope", 0.0), ("cts", -0.01)):
        for seed in range(3):
            for scene, value in enumerate(scenes + shift + rng.normal(0, 0.002, 50)):
                where = {"row": row, "seed": seed, "step": 8, "case": "audio_to_video", "scene": scene}
                rows.append(where | {"metric": "video_loss", "value": value})
    (change,) = differences(rows)
    assert change["part"] == "CTS, equal joint samples"
    assert (change["seeds"], change["pairs"]) == (3, 150)
    assert -0.012 < change["low"] < change["mean"] < change["high"] < -0.008
    drawn, without = changes_chart([change], LOSSES, "loss"), changes_chart([change], CLIPS, "clips")
    assert drawn.height - without.height == ROW  # a line for the part, where it has such a measure
    assert COLOURS[2] in {colour for _, colour in drawn.getcolors(10_000)}  # the third panel's, the picture's loss
    assert changes_chart([change | dict.fromkeys(("mean", "low", "high"), 0.0)], LOSSES, "loss").height == drawn.height
    assert steps_chart(summary(rows)).width > 500


def test_rows_are_compared_at_their_own_last_steps() -> None:
    rows = [
        {"row": row, "seed": 0, "step": step, "case": "joint", "scene": 0, "metric": "video_loss", "value": value}
        for row, step, value in (
            ("three_pass_equal_time", 4, 0.5),
            ("cts_equal_compute", 5, 0.9),
            ("cts_equal_compute", 10, 0.4),
        )
    ]
    (change,) = differences(rows)
    assert (change["part"], change["mean"]) == ("a task a clip, not three passes, in equal time", -0.1)
    assert markdown(summary(rows), [change]).count("0.500") == 3  # mean and interval of the shorter row


def test_interval_is_wider_where_training_seeds_differ() -> None:
    scenes = np.random.default_rng(0).uniform(0, 0.2, 40)
    same = interval({str(seed): list(scenes) for seed in range(3)})
    apart = interval({str(seed): list(scenes + shift) for seed, shift in enumerate((-0.2, 0.0, 0.2))})
    assert same[0] == pytest.approx(apart[0])
    assert apart[2] - apart[1] > 2 * (same[2] - same[1])


def test_wrong_options_are_named() -> None:
    with pytest.raises(ValueError, match=r"'moon'.*global"):
        AblationOptions(rows=("moon",))
    with pytest.raises(ValueError, match="seeds is 0"):
        AblationOptions(seeds=0)
    with pytest.raises(ValueError, match="scenes is 2"):
        AblationOptions(scenes=2)
    with pytest.raises(ValueError, match="world is 'plain', but must be hard or unseen"):
        AblationOptions(world="plain")
