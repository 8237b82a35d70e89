"""The ablation in numbers: means of its rows, and what each part changes, with bootstrap intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .ablation_rows import LOSS_METRICS, PARTS, REFERENCED, REFERENCES, ROWS, SYNC_CFG, TESTED
from .hard_quality import METRICS


def interval(values: dict[str, list[float]]) -> tuple[float, float, float]:
    """Mean, and the 95 % bootstrap interval of values by training seed: seeds are drawn again, then their scenes."""
    rng = np.random.default_rng(0)
    groups = [np.array(each) for each in values.values()]
    means = []
    for _ in range(2000):
        drawn = [groups[index] for index in rng.integers(len(groups), size=len(groups))]
        means.append(np.mean([rng.choice(each, len(each)).mean() for each in drawn]))
    low, high = np.quantile(means, (0.025, 0.975))
    return float(np.mean([each.mean() for each in groups])), float(low), float(high)


def summary(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of every row, step, case and metric: how many seeds and clips, the mean and its interval."""
    groups: dict[tuple[str, ...], dict[str, list[float]]] = {}
    for row in rows:
        key = tuple(str(row[name]) for name in ("row", "step", "case", "metric"))
        groups.setdefault(key, {}).setdefault(str(row["seed"]), []).append(float(row["value"]))
    table = []
    for key, values in groups.items():
        mean, low, high = (round(each, 4) for each in interval(values))
        line = dict(zip(("row", "step", "case", "metric"), key, strict=True))
        counts = {"seeds": len(values), "clips": sum(map(len, values.values()))}
        table.append(line | counts | {"mean": mean, "low": low, "high": high})
    return table


def differences(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """What each part changes, at each row's last step: the mean over pairs of one seed and scene, and its interval."""
    last = _last_steps(rows)
    values = {
        (row["row"], row["case"], row["metric"], str(row["seed"]), str(row["scene"])): float(row["value"])
        for row in rows
        if int(row["step"]) == last[row["row"]]
    }
    pairs = [
        (title, case, with_part, without, case)
        for title, (with_part, without) in PARTS.items()
        for case in (*TESTED, *REFERENCED)
    ]
    pairs.append((SYNC_CFG, "joint_synccfg", "cts", "cts", "joint"))
    table = []
    for title, case, with_part, without, other in pairs:
        for metric in (*LOSS_METRICS, *METRICS):
            found: dict[str, list[float]] = {}
            for row, own_case, own_metric, seed, scene in values:
                before = without, other, metric, seed, scene
                if (row, own_case, own_metric) == (with_part, case, metric) and before in values:
                    change = values[row, case, metric, seed, scene] - values[before]
                    found.setdefault(seed, []).append(change)
            if found:
                mean, low, high = (round(each, 5) for each in interval(found))
                counts = {"seeds": len(found), "pairs": sum(map(len, found.values()))}
                where = {"part": title, "case": case, "metric": metric}
                table.append(where | counts | {"mean": mean, "low": low, "high": high})
    return table


def markdown(lines: Sequence[dict[str, Any]], changes: Sequence[dict[str, Any]]) -> str:
    """A table of every case at each row's last step, and one of what each part changes."""
    last = _last_steps(lines)
    texts = []
    for case in dict.fromkeys(line["case"] for line in lines if line["case"]):
        here = [line for line in lines if line["case"] == case and int(line["step"]) == last[line["row"]]]
        beside = [line for line in lines if line["case"] == ""]
        for metrics, shown in ((LOSS_METRICS, here), (METRICS, beside + here)):
            if any(line["metric"] in metrics for line in here):
                cells = {(line["row"], line["metric"]): _cell(line) for line in shown}
                titles = {name: ROWS[name].title if name in ROWS else name for name in (*REFERENCES, *ROWS)}
                texts.append(_table(case, titles, metrics, cells))
    for metrics in (LOSS_METRICS, METRICS):
        cells = {(f"{each['part']}: {each['case']}", each["metric"]): _cell(each) for each in changes}
        titles = {name: name for name, metric in cells if metric in metrics}
        if titles:
            texts.append(_table("change", titles, metrics, cells))
    return "\n\n".join(texts)


def _last_steps(rows: Sequence[dict[str, Any]]) -> dict[str, int]:
    last: dict[str, int] = {}
    for row in rows:
        last[row["row"]] = max(int(row["step"]), last.get(row["row"], 0))
    return last


def _cell(line: dict[str, Any]) -> str:
    return f"{float(line['mean']):.3f} ({float(line['low']):.3f} to {float(line['high']):.3f})"


def _table(corner: str, titles: dict[str, str], metrics: Sequence[str], cells: dict[tuple[str, str], str]) -> str:
    text = [f"| {corner} | " + " | ".join(metrics) + " |", "|---" * (len(metrics) + 1) + "|"]
    for name, title in titles.items():
        found = [cells.get((name, metric), "") for metric in metrics]
        if any(found):
            text.append(f"| {title} | " + " | ".join(found) + " |")
    return "\n".join(text)
