"""ComfyUI's HTTP interface: queue a prompt, wait for its end, fetch what it saved. The standard library alone."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

POLL_SECONDS = 0.25


class ComfyClient:
    """A running ComfyUI at an address such as http://127.0.0.1:8188."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")

    def get_bytes(self, path: str) -> bytes:
        """Raises ValueError with the server's answer where it is none of the 2xx."""
        return self._answer(path, urllib.request.Request(self.url + path))

    def get(self, path: str) -> Any:
        return json.loads(self.get_bytes(path))

    def post(self, path: str, data: dict[str, Any]) -> Any:
        """POST JSON. Raises as `get_bytes`."""
        request = urllib.request.Request(
            self.url + path, json.dumps(data).encode(), {"Content-Type": "application/json"}
        )
        body = self._answer(path, request)
        return json.loads(body) if body else None

    def _answer(self, path: str, request: urllib.request.Request) -> bytes:
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return response.read()
        except urllib.error.HTTPError as error:
            said = _said(error.read().decode(errors="replace"))
            raise ValueError(f"{path} answered {error.code}: {said}") from error

    def view(self, output: dict[str, str]) -> bytes:
        """The bytes of one saved output, as history lists it."""
        query = {name: output[name] for name in ("filename", "subfolder", "type")}
        return self.get_bytes(f"/view?{urllib.parse.urlencode(query)}")

    def wait(self, prompt_id: str, timeout_s: float = float("inf")) -> dict[str, Any]:
        """A queued prompt's history, once it has one.

        Raises:
            ValueError: somebody took it out of the queue.
            TimeoutError: it did not end in time.
        """
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            queue = self.get("/queue")  # before the history, which a prompt enters as it leaves the queue
            history = self.get(f"/history/{prompt_id}")
            if prompt_id in history:
                return history[prompt_id]
            if all(item[1] != prompt_id for item in (*queue["queue_running"], *queue["queue_pending"])):
                raise ValueError(f"Prompt {prompt_id} was taken out of the queue.")
            time.sleep(POLL_SECONDS)
        raise TimeoutError(f"Prompt {prompt_id} did not end within {timeout_s} s.")


def _said(body: str) -> str:
    """What a refusal says of each node, in words; another answer as it is."""
    try:
        answer = json.loads(body)
        found = [
            f"node {key} ({node['class_type']}): {error['message']}: {error['details']}"
            for key, node in answer["node_errors"].items()
            for error in node["errors"]
        ]
        return "; ".join(found) or answer["error"]["message"]
    except (ValueError, LookupError, TypeError, AttributeError):  # of something before ComfyUI
        return body
