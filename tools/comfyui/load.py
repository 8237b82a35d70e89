"""`make load`: many prompts from several clients in one real ComfyUI, and whether anything gives.

    python -m tools.comfyui.load [--prompts 200] [--clients 4] [--output benchmarks/load.csv]

Shipped workflows of the built-in model, each prompt with its own seed, length, size and words, on the newest tree. In
the middle a visitor cancels a running prompt, takes one out of the queue, and hangs up on one. Then another server is
killed with prompts in its queue and started again. Every result is compared with the same prompt's alone on a fresh
server: pictures and sound, to the bit.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import random
import shutil
import statistics
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from queue import Empty, Queue
from typing import Any

import av

from ..workflows.shipped import MEDIA, RUNNABLE, Prompt, api_workflow, change, nodes_of
from .install import ensure_python, ensure_tree, wanted_trees
from .pack import install_pack
from .server import ComfyServer, Run

WORKFLOWS = [name for name in RUNNABLE if nodes_of(api_workflow(name), "HarmonyDecode")]
BALLS = [f"a {colour} ball bounces on {floor}" for colour in ("red", "blue", "green") for floor in ("metal", "wood")]
SECONDS, SIDES, STEPS = (1.0, 1.5, 2.0), (48, 64, 96), (3, 4, 6)
PROBE = Path(__file__).parent / "memory_probe"
SETTLED = 0.02  # by how much memory may differ between the first and the last quarter
# glibc gives back what is freed, so that the server's memory is what it holds and not what its heap once needed; and
# torch's convolutions keep what they prepare for a shape for the 32 latest shapes, not for a thousand
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536", "MALLOC_ARENA_MAX": "2"}
ALLOCATOR |= {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "32"}


@dataclass
class Job:
    """A prompt and what came of it."""

    number: int
    workflow: str
    prompt: Prompt
    size: str
    client: int = -1
    run_s: float = 0.0
    gap_s: float = 0.0
    rss_mb: float = 0.0
    digest: str = ""
    alone_s: float = 0.0
    alone_digest: str = ""
    error: str = ""

    @property
    def equal(self) -> bool:
        return bool(self.digest) and self.digest == self.alone_digest


@dataclass
class Findings:
    """What the visitor and the restart saw, as sentences; `wrong` are those that should not be."""

    seen: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def expect(self, holds: bool, sentence: str) -> None:
        (self.seen if holds else self.wrong).append(sentence)


def make_job(number: int) -> Job:
    """A workflow with what tells prompts apart changed, and its pictures and sound saved without loss."""
    rng = random.Random(f"load-{number}")
    name = WORKFLOWS[number % len(WORKFLOWS)]
    prompt = api_workflow(name)
    width, height, seconds, steps = rng.choice(SIDES), rng.choice(SIDES), rng.choice(SECONDS), rng.choice(STEPS)
    if name in ("text_to_audio_video", "beginner", "low_memory"):  # what is given has its own size and length
        change(prompt, "HarmonyClip", width=width, height=height, seconds=seconds)
    for key in nodes_of(prompt, "RandomNoise"):
        prompt[key]["inputs"]["noise_seed"] = rng.randrange(2**32)
    change(prompt, "HarmonySampler", seed=rng.randrange(2**32), steps=steps)
    change(prompt, "BasicScheduler", steps=steps)
    for key in nodes_of(prompt, "HarmonyTextEncode"):
        if "ball" in prompt[key]["inputs"]["video_caption"]:
            prompt[key]["inputs"]["video_caption"] = rng.choice(BALLS)
    for key in nodes_of(prompt, "HarmonyDecode"):
        saved = {"images": [key, 0], "filename_prefix": f"load/{number:04}"}
        prompt[f"pictures{key}"] = {"class_type": "SaveImage", "inputs": saved}
        saved = {"audio": [key, 1], "filename_prefix": f"load/{number:04}"}
        prompt[f"sound{key}"] = {"class_type": "SaveAudio", "inputs": saved}
    return Job(number, name, prompt, f"{width}x{height}, {seconds:g} s, {steps} steps")


@contextmanager
def fresh_server(base: Path) -> Iterator[ComfyServer]:
    """The newest tree with this pack and the example media."""
    tree = ensure_tree(wanted_trees()[-1])
    server = ComfyServer(tree, base, ensure_python(tree))
    install_pack(base / "custom_nodes")
    shutil.copytree(PROBE, base / "custom_nodes" / PROBE.name, dirs_exist_ok=True)
    for file in MEDIA.iterdir():
        (base / "input" / file.name).write_bytes(file.read_bytes())
    server.start()
    try:
        yield server
    finally:
        server.stop()


def resident_mb(server: ComfyServer) -> float:
    return server.get("/harmony/memory")["resident"] / 2**20


def span_s(run: Run) -> tuple[float, float]:
    """When the server began and ended a prompt, by its own clock."""
    stamps = [event["data"]["timestamp"] / 1000 for event in run.events if "timestamp" in event.get("data", {})]
    return stamps[0], stamps[-1]


def digest_of(server: ComfyServer, outputs: dict[str, Any]) -> str:
    """Of the decoded pixels and samples of everything that a prompt saved without loss."""
    total = hashlib.sha256()
    for key in sorted(outputs):
        for item in (*outputs[key].get("images", ()), *outputs[key].get("audio", ())):
            if item["filename"].endswith((".png", ".flac")):
                total.update(_content(server.view(item)))
    return total.hexdigest()


def _content(file: bytes) -> bytes:
    """Without the metadata, which names the prompt."""
    with av.open(BytesIO(file)) as container:
        return b"".join(frame.to_ndarray().tobytes() for frame in container.decode())


def work(
    server: ComfyServer, client: int, waiting: Queue[Job], done: list[Job], ends: list[tuple[float, float]]
) -> None:
    """One client: a prompt after the other until none is left."""
    while True:
        try:
            job = waiting.get_nowait()
        except Empty:
            return
        job.client = client
        try:
            run = server.run(job.prompt, timeout_s=600)
            job.error = "" if run.error is None else str(run.error.get("exception_message", run.error))[:300]
            if run.interrupted:
                job.error = "interrupted, which nobody asked for"
            begin, end = span_s(run)
            job.run_s, job.rss_mb = end - begin, resident_mb(server)
            job.digest = digest_of(server, run.outputs)
            ends.append((begin, end))
        except Exception as error:
            job.error = f"{type(error).__name__}: {error}"[:300]
        done.append(job)


def under_load(jobs: list[Job], clients: int, findings: Findings) -> None:
    """All jobs from several clients at once, with the visitor in the middle."""
    waiting: Queue[Job] = Queue()
    for job in jobs:
        waiting.put(job)
    done: list[Job] = []
    ends: list[tuple[float, float]] = []
    with tempfile.TemporaryDirectory(prefix="harmony-load-") as folder, fresh_server(Path(folder)) as server:
        threads = [threading.Thread(target=work, args=(server, n, waiting, done, ends)) for n in range(clients)]
        for thread in threads:
            thread.start()
        while len(done) < len(jobs) // 2 and any(thread.is_alive() for thread in threads):
            time.sleep(0.2)
        visit(server, findings)
        for thread in threads:
            thread.join()
        findings.expect(not left_over(Path(folder)), f"no half-written file is left ({left_over(Path(folder))})")
    jobs[:] = done  # in the order in which they ended
    ordered = sorted(ends)
    gaps = {later[1]: max(0.0, later[0] - earlier[1]) for earlier, later in pairwise(ordered)}
    for job, (_, end) in zip([job for job in done if job.run_s], ends, strict=True):
        job.gap_s = gaps.get(end, 0.0)


def visit(server: ComfyServer, findings: Findings) -> None:
    """Somebody who changes their mind: cancels a running prompt, a queued one, and hangs up on a third."""
    long = make_job(1_000_001).prompt
    change(long, "BasicScheduler", steps=400)
    change(long, "HarmonySampler", steps=400)
    asked = time.monotonic()
    run = server.run(long, timeout_s=600, interrupt_at=3)
    findings.expect(run.interrupted and run.error is None, "a running prompt is cancelled, without an error")
    findings.seen.append(f"cancelled {time.monotonic() - asked:.1f} s after it was queued, waiting included")
    queued = server.post("/prompt", {"prompt": make_job(1_000_002).prompt, "client_id": uuid.uuid4().hex})["prompt_id"]
    server.post("/queue", {"delete": [queued]})
    dropped = hang_up(server, make_job(1_000_003).prompt)
    findings.expect(bool(dropped["outputs"]), "a prompt whose client hung up is finished all the same")
    findings.expect(not server.get(f"/history/{queued}"), "a prompt that was taken out of the queue never ran")


def hang_up(server: ComfyServer, prompt: Prompt) -> dict[str, Any]:
    """The history of a prompt whose client closed its socket at once."""
    import websocket

    client = uuid.uuid4().hex
    socket = websocket.create_connection(f"ws://127.0.0.1:{server.port}/ws?clientId={client}", timeout=5)
    queued = server.post("/prompt", {"prompt": prompt, "client_id": client})["prompt_id"]
    socket.close()
    return server.wait(queued, timeout_s=600)


def left_over(base: Path) -> list[str]:
    """Files that are being written, or were."""
    return sorted(str(path.relative_to(base)) for path in base.rglob("*.part"))


def restart(jobs: list[Job], findings: Findings) -> None:
    """Kill the server while it works, start it again, and ask for what was lost."""
    with tempfile.TemporaryDirectory(prefix="harmony-load-") as folder:
        base = Path(folder)
        with fresh_server(base) as server:
            first = server.run(jobs[0].prompt)
            jobs[0].digest = digest_of(server, first.outputs)
            for job in jobs[1:]:
                server.post("/prompt", {"prompt": job.prompt, "client_id": uuid.uuid4().hex})
            time.sleep(1.0)
            assert server.process is not None
            server.process.kill()
            server.process.wait()
        finished = {path: path.read_bytes() for path in (base / "output").rglob("*") if path.is_file()}
        with fresh_server(base) as server:
            for job in jobs[1:]:
                job.digest = digest_of(server, server.run(job.prompt).outputs)
            kept = all(path.read_bytes() == content for path, content in finished.items())
            findings.expect(kept, f"the {len(finished)} files that were there when the server was killed are unchanged")
            findings.expect(not left_over(base), f"after a restart no half-written file is left ({left_over(base)})")


def alone(jobs: list[Job]) -> None:
    """The same prompts one after another on a fresh server, in another order."""
    with tempfile.TemporaryDirectory(prefix="harmony-load-") as folder, fresh_server(Path(folder)) as server:
        for job in sorted(jobs, key=lambda job: hashlib.sha256(str(job.number).encode()).digest()):
            run = server.run(job.prompt, timeout_s=600)
            begin, end = span_s(run)
            job.alone_s, job.alone_digest = end - begin, digest_of(server, run.outputs)


def load(prompts: int, clients: int, restarted: int) -> tuple[list[Job], Findings]:
    """Jobs of the load, then those of the restart, and what was seen."""
    findings = Findings()
    jobs = [make_job(number) for number in range(prompts)]
    under_load(jobs, clients, findings)
    after = [make_job(prompts + number) for number in range(restarted)]
    restart(after, findings)
    alone([*jobs, *after])
    judge(jobs, after, findings)
    return jobs, findings


def judge(jobs: list[Job], after: list[Job], findings: Findings) -> None:
    failed = [f"{job.number}: {job.error}" for job in jobs if job.error]
    findings.expect(not failed, f"{len(jobs) - len(failed)} of {len(jobs)} prompts finished {failed[:3]}")
    for what, group in (("under load", jobs), ("after a restart", after)):
        same = [job.number for job in group if job.equal]
        findings.expect(len(same) == len(group), f"{len(same)} of {len(group)} {what} equal to their single runs")
    quarter = max(1, len(jobs) // 4)
    first, last = (statistics.mean(job.rss_mb for job in part) for part in (jobs[:quarter], jobs[-quarter:]))
    change_ = last / first - 1
    findings.expect(
        abs(change_) <= SETTLED,
        f"memory of the last {quarter} is {last:.0f} MB, of the first {first:.0f} MB ({change_:+.1%})",
    )
    slower = statistics.median(job.run_s / job.alone_s for job in jobs if job.alone_s)
    findings.seen.append(f"a prompt takes {slower:.2f} of what it takes alone (median), once it is its turn")
    findings.seen.append(f"between two prompts {1000 * statistics.median(job.gap_s for job in jobs):.0f} ms (median)")


def write(path: Path, jobs: list[Job]) -> None:
    names = ("number", "client", "workflow", "size", "run_s", "alone_s", "gap_s", "rss_mb", "equal", "error")
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        for job in jobs:
            values = (getattr(job, name) for name in names)
            writer.writerow([round(value, 3) if isinstance(value, float) else value for value in values])


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--prompts", type=int, default=200)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--restarted", type=int, default=8)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--default-allocator", action="store_true", help="leave glibc's heap as it is")
    arguments = parser.parse_args()
    if not arguments.default_allocator:
        os.environ |= ALLOCATOR
    started = time.monotonic()
    jobs, findings = load(arguments.prompts, arguments.clients, arguments.restarted)
    if arguments.output:
        write(arguments.output, jobs)
    for sentence in findings.seen:
        print(f"  {sentence}")
    for sentence in findings.wrong:
        print(f"WRONG {sentence}")
    print(
        json.dumps({"prompts": len(jobs), "wrong": len(findings.wrong), "seconds": round(time.monotonic() - started)})
    )
    return 1 if findings.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
