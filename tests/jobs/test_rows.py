from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from evolink_mcp.api.wire import Task, TaskError
from evolink_mcp.catalog.request import ImageRequest
from evolink_mcp.errors import EvolinkError, OutcomeUnknown, TaskFailed
from evolink_mcp.jobs.job import Job, JobId, Picture, Principal, State
from evolink_mcp.jobs.rows import wish_of
from tests.jobs.records import FOX, NO_CAP, new_job, open_record
from tests.sandbox.desk import Clock

TASK = Task.model_validate(
    {
        "id": "task-unified-1",
        "status": "failed",
        "progress": 47.5,
        "model": "gpt-4o-image",
        "created": 1_700_000_000,
        "task_info": {"estimated_time": 45},
        "usage": {"credits_reserved": 10, "credits_used": 2.5},
        "results": ["https://a/1.png?x=%20&y=1", "https://a/2.png"],
        "error": {"code": "service_error", "message": "Ünglück"},
    }
)

PICTURES = (
    Picture(
        n=1,
        url="https://a/1.png",
        expires_at=datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC),
        path=Path("/Bilder/Füchse/1.png"),
        media_type="image/png",
        width=1024,
        height=768,
        size=123_456,
    ),
    Picture(n=2, url="https://a/2.png", expires_at=None, problem="It could not be fetched."),
)

PLAIN = EvolinkError(
    code="a_code", message="Überall.", next_step="Wait.", retryable=True, charged="yes"
)
UNKNOWN = OutcomeUnknown(message="Nobody knows.", next_step="Look.")
FAILED = TaskFailed(
    task_id="task-unified-1", code="service_error", message="No.", next_step="Wait.", retryable=True
)

text = st.text(st.characters(exclude_categories=["Cs"]))
requests = st.builds(
    ImageRequest,
    model=text,
    prompt=text,
    size=st.none() | text,
    n=st.none() | st.integers(1, 4),
    image_urls=st.lists(text, max_size=3).map(tuple),
    mask_url=st.none() | text,
    callback_url=st.none() | text,
)


async def kept(job: Job) -> Job:
    """Return a job as it comes back from the journal."""
    clock = Clock(job.created)
    async with open_record(None, clock) as journal:
        if job.request is None:
            await journal.enroll(job)
        else:
            await journal.admit(job, budget=NO_CAP)
        await journal.record(job)
        found = await journal.look(job.id)
    assert found is not None
    return found


def told(error: EvolinkError | None) -> object:
    """Return all that an error says: errors are only equal to themselves."""
    return error and (type(error), vars(error))


@pytest.mark.parametrize(
    ("state", "error"),
    [
        ("intent", None),
        ("refused", PLAIN),
        ("unknown", UNKNOWN),
        ("completed", None),
        ("failed", FAILED),
        ("expired", PLAIN),
    ],
)
async def test_a_job_comes_back_as_it_was_recorded(
    state: State, error: EvolinkError | None
) -> None:
    job = Job(
        id=JobId("run_1"),
        principal=Principal("Jürgen"),
        request=replace(FOX, prompt="ein Füchslein 🦊", n=2, image_urls=("https://a/1.png",)),
        created=1_700_000_000.25,
        booked=2.5,
        state=state,
        task=TASK,
        pictures=PICTURES,
        error=error,
    )
    found = await kept(job)
    assert replace(found, error=error) == job
    assert told(found.error) == told(error)


async def test_a_job_that_has_hardly_begun_comes_back_too() -> None:
    job = replace(new_job(), created=1.0, booked=2.5)
    assert await kept(job) == job
    stranger = replace(job, request=None, task=Task(id="task-unified-1"))
    assert await kept(stranger) == stranger


async def test_pictures_of_either_field_come_back() -> None:
    task = Task.model_validate(
        {"id": "task-unified-1", "result_data": [{"image_url": "https://a/1.png"}]}
    )
    found = await kept(replace(new_job(), task=task, state="processing"))
    assert found.task is not None
    assert found.task.links == task.links == ("https://a/1.png",)


@given(request=requests)
def test_any_request_comes_back(request: ImageRequest) -> None:
    job = replace(new_job(request), created=1.0)
    assert anyio.run(kept, job).request == request


charges: SearchStrategy[Literal["no", "yes", "unknown"]] = st.sampled_from(["no", "yes", "unknown"])
errors = st.builds(
    EvolinkError,
    code=text,
    message=text,
    next_step=text,
    retryable=st.booleans(),
    charged=charges,
)
numbers = st.none() | st.floats(min_value=0, allow_nan=False, allow_infinity=False)


@given(
    error=errors,
    credits_reserved=numbers,
    progress=st.floats(0, 100),
    said=st.none() | st.builds(TaskError, code=text, message=text),
)
def test_whatever_evolink_says_comes_back(
    error: EvolinkError,
    credits_reserved: float | None,
    progress: float,
    said: TaskError | None,
) -> None:
    task = TASK.model_copy(
        update={"credits_reserved": credits_reserved, "progress": progress, "error": said}
    )
    job = replace(new_job(), created=1.0, state="expired", task=task, error=error)
    found = anyio.run(kept, job)
    assert (found.task, told(found.error)) == (task, told(error))


@given(one=requests, other=requests)
def test_only_identical_requests_are_the_same_wish(one: ImageRequest, other: ImageRequest) -> None:
    assert (wish_of(one) == wish_of(other)) == (one.body() == other.body())
    assert wish_of(one) == wish_of(replace(one))


def test_a_task_that_was_bought_elsewhere_is_nobodys_wish() -> None:
    assert wish_of(None) == ""
