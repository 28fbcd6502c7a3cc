"""The structured form of every answer: one shape, whatever happened."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from evolink_mcp.api.wire import TaskId
from evolink_mcp.errors import Charged, EvolinkError
from evolink_mcp.jobs.job import LOCAL, Principal
from evolink_mcp.server.links import Links

Status = Literal["pending", "processing", "completed", "failed", "expired", "refused", "unknown"]

Shown = Literal["running", "completed", "unsaved", "failed", "declined", "refused", "unknown"]
"""How a list calls what has become of a job."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True)


class ImageAnswer(_Part):
    """One picture."""

    n: int = Field(description="Position in the task's results, from 1.")
    handle: str = Field(description="Its name here: a resource with the whole picture.")
    url: str = Field(description="Where EvoLink keeps it; open to anybody with the address.")
    url_expires_at: str | None = Field(default=None, description="When that address dies (UTC).")
    path: str | None = Field(default=None, description="Absolute path of the saved file.")
    download_url: str | None = Field(
        default=None, description="Where this server hands it out, instead of a path."
    )
    download_expires_at: str | None = Field(
        default=None, description="When that link dies (UTC); get_task makes a new one."
    )
    media_type: str | None = Field(default=None, description="Type of the file.")
    width: int | None = Field(default=None, description="Pixels.")
    height: int | None = Field(default=None, description="Pixels.")
    bytes: int | None = Field(default=None, description="Size of the file.")
    problem: str | None = Field(default=None, description="Why it is not saved.")

    @property
    def saved(self) -> bool:
        """Whether it is on this server's disk."""
        return self.problem is None


class NextCallArguments(_Part):
    """Arguments of the next call."""

    task_id: str


class NextCall(_Part):
    """The exact call to make next."""

    tool: str
    arguments: NextCallArguments


class Failure(_Part):
    """What went wrong and what to do."""

    code: str = Field(description="Stable word for the kind of failure.")
    message: str
    retryable: bool = Field(description="Whether the same call may succeed later.")
    charged: Charged = Field(description="Whether it cost credits.")
    next_step: str

    @classmethod
    def of(cls, error: EvolinkError, *, charged: Charged | None = None) -> Failure:
        """Tell an error; `charged` where more is known than the error knows."""
        return cls(
            code=error.code,
            message=error.message,
            retryable=error.retryable,
            charged=charged or error.charged,
            next_step=error.next_step,
        )


class Answer(_Part):
    """What `generate_image` and `get_task` answer."""

    status: Status = Field(
        description="pending and processing: go on with next_call; completed: pictures are here; "
        "failed: the task failed; expired: EvoLink has the pictures no more; refused: nothing was "
        "bought or changed; unknown: nobody knows whether a picture was bought."
    )
    task_id: str | None = Field(default=None, description="EvoLink's name for the task.")
    model: str | None = Field(default=None, description="The model that was really used.")
    progress: float | None = Field(default=None, description="Percent.")
    seconds: float | None = Field(default=None, description="Seconds that were waited so far.")
    images: list[ImageAnswer] | None = Field(default=None, description="The pictures.")
    credits_reserved: float | None = Field(
        default=None, description="Credits set aside; the final charge counts the pictures made."
    )
    notes: list[str] | None = Field(default=None, description="What else the user should know.")
    next_poll_seconds: int | None = Field(default=None, description="Seconds until next_call.")
    next_call: NextCall | None = Field(default=None, description="The exact call to make next.")
    error: Failure | None = Field(default=None, description="Only when something went wrong.")


class Entry(_Part):
    """One job in a list."""

    status: Shown = Field(
        description="running: go on with get_task; completed: pictures are on disk; unsaved: paid "
        "for, not all pictures are on disk; failed, declined (no consent to buy it) and refused: "
        "nothing was charged; unknown: nobody knows whether it was bought."
    )
    job_id: str = Field(description="This server's own name for the request.")
    task_id: str | None = Field(default=None, description="EvoLink's name, for get_task.")
    created: str = Field(description="When it was asked for (UTC).")
    model: str | None = Field(default=None, description="The model.")
    prompt: str | None = Field(default=None, description="The beginning of the prompt.")
    n: int | None = Field(default=None, description="How many pictures were asked for.")
    credits: float | None = Field(
        default=None, description="Credits reserved or charged, as far as EvoLink told."
    )
    paths: list[str] | None = Field(default=None, description="The saved files.")
    problem: str | None = Field(default=None, description="What went wrong.")


class TaskList(_Part):
    """What `list_tasks` answers."""

    tasks: list[Entry] | None = Field(default=None, description="Newest first.")
    spent_today: float | None = Field(
        default=None, description="Credits spent or reserved today, as far as this server knows."
    )
    daily_credits: float | None = Field(default=None, description="The cap for a day.")
    error: Failure | None = Field(default=None, description="Only when something went wrong.")


_Told = TypeVar("_Told", Answer, TaskList)


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Whom an answer goes to, as far as it matters how they come to the pictures."""

    principal: Principal = LOCAL
    remote: bool = False
    """Whether the disk here is none of theirs: they get links, and no path."""
    links: Links | None = None
    """Makes links for a remote caller; without it they have EvoLink's address and the handle."""
    folders: tuple[Path, ...] = ()
    """Folders of this server, which errors may name."""

    def told(self, answer: _Told) -> _Told:
        """Return an answer as it may be told to this caller."""
        if not self.remote:
            return answer
        changes: dict[str, object] = {"error": self.failure(answer.error) if answer.error else None}
        if isinstance(answer, Answer):
            images = answer.images
            changes["images"] = images and [self._image(image, answer) for image in images]
        else:
            changes["tasks"] = answer.tasks and [self._entry(entry) for entry in answer.tasks]
        return answer.model_copy(update=changes)

    def without_paths(self, text: str) -> str:
        """Return a text without the names of this server's folders, for a remote caller."""
        longest_first = sorted(map(str, self.folders), key=len, reverse=True)
        for folder in longest_first if self.remote else ():
            text = text.replace(folder, "its folder on the server")
        return text

    def _image(self, image: ImageAnswer, answer: Answer) -> ImageAnswer:
        changes: dict[str, object] = {
            "path": None,
            "problem": self.without_paths(image.problem) if image.problem else None,
        }
        if image.saved and self.links is not None and answer.task_id is not None:
            task_id = TaskId(answer.task_id)
            link = self.links.url_of(task_id, n=image.n, principal=self.principal)
            changes["download_url"] = link.url
            changes["download_expires_at"] = link.expires_at.isoformat(timespec="minutes")
        return image.model_copy(update=changes)

    def _entry(self, entry: Entry) -> Entry:
        problem = self.without_paths(entry.problem) if entry.problem else None
        return entry.model_copy(update={"paths": None, "problem": problem})

    def failure(self, failure: Failure) -> Failure:
        """Return a failure as it may be told to this caller."""
        return failure.model_copy(
            update={
                "message": self.without_paths(failure.message),
                "next_step": self.without_paths(failure.next_step),
            }
        )


HERE = Caller()
"""Whoever runs the server, with its disk at hand."""
