"""A small part of `make load`, on servers of its own: the memory probe is in them, and nothing has run before."""

from __future__ import annotations

import pytest

from tools.comfyui.load import Findings, alone, make_job, under_load

PROMPTS, CLIENTS = 8, 2

pytestmark = [pytest.mark.host, pytest.mark.newest_tree]


@pytest.mark.usefixtures("comfy_tree")
def test_prompts_of_several_clients_equal_single_runs() -> None:
    """With one cancelled, one taken out of the queue and one whose client hangs up, in the middle."""
    findings, jobs = Findings(), [make_job(number) for number in range(PROMPTS)]
    under_load(jobs, CLIENTS, findings)
    alone(jobs)
    assert not findings.wrong
    assert len(jobs) == PROMPTS
    assert {job.client for job in jobs} == set(range(CLIENTS))
    assert [job.number for job in jobs if job.error or not job.equal] == []
