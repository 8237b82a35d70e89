"""A real ComfyUI on the CPU, for tests, tools and demos."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import time
import urllib.error
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .client import ComfyClient
from .install import ensure_python
from .pack import install_pack

BOOT_SECONDS = 900
LEVEL = re.compile(r"^(?:\x1b\[[0-9;]*m)*\[[A-Z]+\](?:\x1b\[[0-9;]*m)* ", re.MULTILINE)
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@dataclass
class Run:
    """What one queued prompt did."""

    prompt_id: str
    events: list[dict[str, Any]] = field(default_factory=list)
    num_previews: int = 0
    outputs: dict[str, Any] = field(default_factory=dict)
    error: dict[str, Any] | None = None
    interrupted: bool = False

    def last_progress(self) -> int:
        """Value of the newest message if it is one of progress, else 0."""
        event = self.events[-1] if self.events else {}
        return int(event["data"]["value"]) if event.get("type") == "progress" else 0

    def progress(self, node_id: str) -> list[tuple[int, int]]:
        """(value, max) messages of one node, in order."""
        messages = (event["data"] for event in self.events if event["type"] == "progress")
        return [(int(data["value"]), int(data["max"])) for data in messages if data.get("node") == node_id]


class ComfyServer(ComfyClient):
    """One ComfyUI process over a base directory of its own."""

    def __init__(self, tree: Path, base: Path, python: Path, arguments: tuple[str, ...] = ()) -> None:
        self.tree, self.base, self.python, self.arguments = tree, base, python, arguments
        self.port = _free_port()
        super().__init__(f"http://127.0.0.1:{self.port}")
        self.log_path = base / "server.log"
        self.process: subprocess.Popen[bytes] | None = None
        for name in ("custom_nodes", "input", "output", "models"):
            (base / name).mkdir(parents=True, exist_ok=True)

    @property
    def log(self) -> str:
        """What it wrote, without the coloured levels that newer versions begin their lines with."""
        return COLOUR.sub("", LEVEL.sub("", self.log_path.read_text(errors="replace")))

    def start(self) -> None:
        """Boot and wait until the server answers. Raises RuntimeError with the log's end when it does not."""
        environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
        environment |= {"HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}
        environment.setdefault("OMP_NUM_THREADS", "1")  # two threads of a tiny model stall each other on a busy machine
        command = [str(self.python), str(self.tree / "main.py"), "--cpu", "--listen", "127.0.0.1"]
        command += ["--port", str(self.port), "--base-directory", str(self.base), "--disable-api-nodes"]
        command += ["--database-url", f"sqlite:///{self.base / 'comfyui.db'}", "--preview-method", "latent2rgb"]
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                [*command, *self.arguments], cwd=self.base, env=environment, stdout=log, stderr=subprocess.STDOUT
            )
        deadline = time.monotonic() + BOOT_SECONDS
        while time.monotonic() < deadline:
            self.check_alive()
            try:
                self.get("/system_stats")
                return
            except (urllib.error.URLError, ConnectionError):
                time.sleep(0.3)
        raise RuntimeError(f"ComfyUI did not answer within {BOOT_SECONDS} s:\n{self.log[-4000:]}")

    def check_alive(self) -> None:
        if self.process is None or self.process.poll() is not None:
            raise RuntimeError(f"ComfyUI is not running:\n{self.log[-4000:]}")

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def saved_file(self, run: Run, node_id: str) -> bytes:
        """The bytes of the one file that a save node reported."""
        (output,) = run.outputs[node_id]["images"]
        return self.view(output)

    def run(
        self,
        prompt: dict[str, Any],
        timeout_s: float = 300,
        interrupt_at: int | None = None,
        watch: Callable[[Run], None] | None = None,
    ) -> Run:
        """Queue an API-format prompt, follow it on the websocket, return what happened.

        `interrupt_at` interrupts when any node reports that progress value; `watch` is called after every message.
        Raises ValueError when the server refuses the prompt, TimeoutError when it does not end.
        """
        import websocket

        client_id = uuid.uuid4().hex
        socket_ = websocket.create_connection(f"ws://127.0.0.1:{self.port}/ws?clientId={client_id}", timeout=5)
        try:
            run = Run(self.post("/prompt", {"prompt": prompt, "client_id": client_id})["prompt_id"])
            deadline = time.monotonic() + timeout_s
            while self._follow(socket_, run):
                if watch is not None:
                    watch(run)
                if interrupt_at is not None and run.last_progress() >= interrupt_at:
                    self.post("/interrupt", {})
                    interrupt_at = None
                if time.monotonic() > deadline:
                    raise TimeoutError(f"The prompt did not end within {timeout_s} s:\n{self.log[-4000:]}")
        finally:
            socket_.close()
        run.outputs = self.get(f"/history/{run.prompt_id}")[run.prompt_id]["outputs"]
        return run

    def _follow(self, socket_: Any, run: Run) -> bool:
        """Take one websocket message into `run`; False when the prompt has ended."""
        import websocket

        try:
            message = socket_.recv()
        except websocket.WebSocketTimeoutException:
            self.check_alive()
            return True
        if isinstance(message, bytes):
            run.num_previews += 1
            return True
        event = json.loads(message)
        run.events.append(event)
        if event.get("data", {}).get("prompt_id") != run.prompt_id:
            return True
        if event["type"] == "execution_error":
            run.error = event["data"]
        run.interrupted |= event["type"] == "execution_interrupted"
        # the history is written before this message and after execution_success
        return not (event["type"] == "executing" and event["data"]["node"] is None)


@contextmanager
def serve(tree: Path, base: Path) -> Iterator[ComfyServer]:
    """A running ComfyUI with this pack over the folder `base`, for a while."""
    server = ComfyServer(tree, base, ensure_python(tree))
    install_pack(base / "custom_nodes")
    server.start()
    try:
        yield server
    finally:
        server.stop()
