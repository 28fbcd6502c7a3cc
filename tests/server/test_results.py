"""What is said of jobs that came to their end while nobody looked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from evolink_mcp.api.wire import Task
from evolink_mcp.errors import TaskNotFound
from evolink_mcp.jobs.job import Job, JobId, Picture
from evolink_mcp.server.results import listed, recorded

LOST = Picture(n=1, url="https://example.com/1", expires_at=None, problem="its link has expired")
EXPIRED = Job(
    id=JobId("run_1"),
    state="expired",
    task=Task(id="task-unified-1", status="completed"),
    pictures=(LOST, replace(LOST, n=2, problem="", path=Path("/pictures/2.png"))),
)


def test_pictures_whose_links_have_died_are_said_to_be_out_of_reach() -> None:
    answer = recorded(EXPIRED)
    assert [image.path for image in answer.images or ()] == [None, "/pictures/2.png"]
    [note] = answer.notes or []
    assert "the link has expired" in note
    assert "cannot be fetched any more" in note
    [entry] = listed([EXPIRED], spent=0, cap=None).tasks or []
    assert (entry.status, entry.problem) == ("unsaved", "its link has expired")
    assert entry.paths == ["/pictures/2.png"]


def test_a_task_that_evolink_has_forgotten_is_paid_and_has_no_next_call() -> None:
    gone = TaskNotFound(status=404, message="Gone.", next_step="Tell the user.", charged="yes")
    answer = recorded(replace(EXPIRED, pictures=(), error=gone))
    assert (answer.status, answer.task_id, answer.next_call) == ("expired", "task-unified-1", None)
    assert answer.error is not None
    assert answer.error.charged == "yes"
