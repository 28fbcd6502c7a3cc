"""What becomes of purchases on a network that breaks: nothing bought twice, nothing lost.

Real watchers buy from a sandbox and keep a real journal. For each wish a seed draws a fault
(what the network or EvoLink does to its requests) and a caller (who may leave, or ask again).
A fault belongs to its wish, not to the moment: so a seed always gives the same report,
however the wishes that are under way at once take turns.

Afterwards the journal is opened again, as another process would, and each wish is held
against what the sandbox really did and what the fault allows to know. Aim: no violations.
"""

from __future__ import annotations

import json
import logging
import random
import time
from collections import Counter, defaultdict
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from io import BytesIO
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, get_args

import anyio
import anyio.lowlevel
import httpx2 as httpx
from PIL import Image

from evolink_mcp.api.client import connect
from evolink_mcp.api.egress import open_downloads
from evolink_mcp.api.network import Network
from evolink_mcp.catalog.request import ImageRequest
from evolink_mcp.jobs.job import LOCAL, Job, Watch
from evolink_mcp.jobs.journal import Budget, open_journal
from evolink_mcp.jobs.watch import Watchers
from evolink_mcp.sandbox import Sandbox, SandboxTask

SEED = 3
WISHES = 10_000

AT_ONCE = 20
"""Wishes under way at the same time. All of them together sleep for less than the time in
which an identical call joins, so that whose turn it is cannot decide about that."""

PICTURES = 0.2
"""The part of the wishes whose tasks end with a picture; the others fail at EvoLink."""

PATIENCE = 60.0
"""Real seconds after which wishes that do not end break the measurement off."""

BASE_URL = "https://sandbox.test"
SPEED = 1000

End = Literal["bought", "refused", "unknown"]
"""All that can be known about a purchase from outside."""

Comes = Callable[[Sequence[httpx.Response]], httpx.Response]
"""What comes back, given EvoLink's answers: one for each time that the request arrived."""


def first(answers: Sequence[httpx.Response]) -> httpx.Response:
    """Let EvoLink's answer through."""
    return answers[0]


def last(answers: Sequence[httpx.Response]) -> httpx.Response:
    """Let the answer to the last delivery through."""
    return answers[-1]


def half(answers: Sequence[httpx.Response]) -> httpx.Response:
    """End the answer in the middle, as if that were all."""
    content = answers[0].content
    return httpx.Response(200, content=content[: len(content) // 2])


def cut(answers: Sequence[httpx.Response]) -> httpx.Response:
    """Break the connection in the middle of the answer."""
    return httpx.Response(200, stream=Broken(half(answers).content))


def breaks(error: type[Exception]) -> Comes:
    """Let the connection fail."""

    def comes(_: Sequence[httpx.Response]) -> httpx.Response:
        raise error("the network broke")

    return comes


def says(status: int, content: bytes) -> Comes:
    """Let something before EvoLink answer in its place."""
    return lambda _: httpx.Response(status, content=content)


@dataclass
class Broken(httpx.AsyncByteStream):
    """The beginning of an answer whose end never comes."""

    beginning: bytes

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield the beginning, then break."""
        yield self.beginning
        raise httpx.RemoteProtocolError("peer closed connection")


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What happens to one request of a purchase."""

    arrives: int = 1
    """How often EvoLink gets it."""
    comes: Comes = first
    takeable: bool = True
    """Whether it may have been taken, as far as its sender can know."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to the first requests of a wish; later ones meet no fault."""

    name: str
    end: End
    """All that it allows to know of the purchase."""
    steps: tuple[Step, ...] = ()
    marker: str = ""
    """Asks the sandbox, in the prompt, to refuse."""


UNSENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError)
LOST = (
    *(httpx.WriteTimeout, httpx.WriteError, httpx.ReadTimeout, httpx.ReadError),
    *(httpx.RemoteProtocolError, ConnectionResetError),
)
REPLACED: dict[str, Comes] = {
    "answer that is no JSON": says(200, b"\x1f\x8b\x00 this is no JSON"),
    "302": says(302, b""),
    "502 with HTML": says(502, b"<html>502 Bad Gateway</html>"),
    "503 with HTML": says(503, b"<html>503 Service Unavailable</html>"),
    "503 with a proxy's JSON": says(503, b'{"code": "service_unavailable", "message": "no host"}'),
    "504 without a body": says(504, b""),
}
TURNED_AWAY: Mapping[str, str] = {
    "429": "[http:429]",
    "429 with Retry-After": "[http:429+7]",
    "503 of EvoLink's": "[http:503]",
}
REFUSED, FAILED = (400, 401, 402, 403, 413, 415), (409, 500, 502, 504)
ARRIVES = {"before it arrived": 0, "after it was taken": 1}

_AWAY = Step(takeable=False)
_LOST_LATER = Step(comes=breaks(httpx.ReadTimeout))


def unsent(error: type[Exception]) -> Step:
    """Fail in a way that proves that nothing left."""
    return Step(arrives=0, comes=breaks(error), takeable=False)


def not_sent() -> Iterator[Fault]:
    """Make faults in which the first request never left."""
    for error in UNSENT:
        yield Fault(f"{error.__name__}, once", "bought", (unsent(error),))
        yield Fault(f"{error.__name__}, twice", "refused", (unsent(error),) * 2)
        yield Fault(f"{error.__name__}, then lost", "unknown", (unsent(error), _LOST_LATER))


def without_answer() -> Iterator[Fault]:
    """Make faults after which nobody can know whether EvoLink took the request."""
    breaking = {error.__name__: breaks(error) for error in LOST}
    for (name, comes), (when, n) in product((breaking | REPLACED).items(), ARRIVES.items()):
        yield Fault(f"{name}, {when}", "unknown", (Step(arrives=n, comes=comes),))
    yield Fault("answer that breaks off", "unknown", (Step(comes=cut),))
    yield Fault("answer that ends in the middle", "unknown", (Step(comes=half),))
    for status in FAILED:
        yield Fault(f"{status}", "unknown", (Step(),), f"[http:{status}]")
    yield Fault("502 of EvoLink's with HTML", "unknown", (Step(),), "[html:502]")


def turned_away() -> Iterator[Fault]:
    """Make faults in which EvoLink says no, for good or in passing."""
    for status in REFUSED:
        yield Fault(f"{status}", "refused", (_AWAY,), f"[http:{status}]")
    yield Fault("429, wait for an hour", "refused", (_AWAY,), "[http:429+3600]")
    for name, marker in TURNED_AWAY.items():
        yield Fault(f"{name}, once", "bought", (_AWAY,), marker)
        yield Fault(f"{name}, twice", "refused", (_AWAY,) * 2, marker * 2)
        yield Fault(f"{name}, then lost", "unknown", (_AWAY, _LOST_LATER), marker)


def delivered_twice() -> Iterator[Fault]:
    """Make faults in which the network doubles a request that left once."""
    yield Fault("delivered twice, first answer", "bought", (Step(arrives=2),))
    yield Fault("delivered twice, last answer", "bought", (Step(arrives=2, comes=last),))
    broken = Step(arrives=2, comes=breaks(httpx.ReadError))
    yield Fault("delivered twice, no answer", "unknown", (broken,))


FAULTS = (
    Fault("none", "bought"),
    *not_sent(),
    *without_answer(),
    *turned_away(),
    *delivered_twice(),
)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who has a wish."""

    name: str
    calls: Callable[[Course], Awaitable[object]]
    """Calls once or more; its requests are held back until it releases them, or is done."""
    anew: frozenset[End] = frozenset()
    """Ends of the first purchase after which the second call has to buy anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """A picture that somebody wants, and what stands against it."""

    number: int
    fault: Fault
    caller: Caller
    fails: bool
    """Whether its task fails at EvoLink, once it is bought."""

    @property
    def prompt(self) -> str:
        """What tells it from all others."""
        failing = "[fail:service_error]" if self.fails else ""
        return f"fox {self.number} {self.fault.marker}{failing}"

    @property
    def ends(self) -> list[End]:
        """How its purchases have to end."""
        fault = self.fault
        return [fault.end, "bought"] if fault.end in self.caller.anew else [fault.end]


@dataclass(slots=True)
class Course:
    """A wish under way."""

    wish: Wish
    watchers: Watchers
    calling: anyio.Event = field(default_factory=anyio.Event)
    under_way: anyio.Event = field(default_factory=anyio.Event)
    """Whether a request has left."""
    released: anyio.Event = field(default_factory=anyio.Event)
    watches: list[Watch] = field(default_factory=list[Watch])

    async def live(self) -> None:
        """Let the caller call, then wait until everything that it began is over."""
        await self.wish.caller.calls(self)
        self.released.set()
        for watch in self.watches:
            await watch.end()

    async def call(self) -> Watch:
        """Ask for the picture."""
        self.calling.set()
        request = ImageRequest(model="gpt-4o-image", prompt=self.wish.prompt)
        watch = (await self.watchers.buy(request, budget=_BUDGET)).watch
        self.watches.append(watch)
        return watch

    async def call_and_wait(self) -> None:
        """Ask for the picture and wait for it."""
        await (await self.call()).end()

    async def leave_when(self, moment: anyio.Event) -> None:
        """Ask for the picture, and be cancelled at a moment."""
        async with anyio.create_task_group() as group:
            group.start_soon(self.call_and_wait)
            await moment.wait()
            group.cancel_scope.cancel()


async def call_twice_at_once(course: Course) -> None:
    """Have two identical calls, neither of which knows of the other."""
    async with anyio.create_task_group() as group:
        group.start_soon(course.call)
        group.start_soon(course.call)


async def come_back(course: Course) -> None:
    """Vanish while the request is under way, and call again before its answer is there."""
    await course.leave_when(course.under_way)
    await course.call()


async def come_back_late(course: Course) -> None:
    """Vanish while the request is under way, and call again when all is over."""
    await course.leave_when(course.under_way)
    course.released.set()
    await course.watches[0].end()
    await course.call()


async def call_again_with_answer(course: Course) -> None:
    """Call again after the answer was delivered."""
    watch = await course.call()
    course.released.set()
    await watch.end()
    course.watchers.answered(watch)
    await course.watchers.journal.mark_delivered()
    await course.call()


CALLERS = (
    Caller("waits", Course.call),
    Caller("is cancelled at once", lambda course: course.leave_when(course.calling)),
    Caller("is cancelled under way", lambda course: course.leave_when(course.under_way)),
    Caller("calls twice at once", call_twice_at_once),
    Caller("vanishes, comes back", come_back),
    Caller("vanishes, comes back late", come_back_late, frozenset({"refused"})),
    Caller("has the answer, calls again", call_again_with_answer, frozenset(get_args(End))),
)


def drawn_wishes(count: int, *, seed: int) -> list[Wish]:
    """Draw wishes: the same again for the same seed, and each fault about as often."""
    lot = random.Random(seed)  # noqa: S311 - nothing to protect
    drawn = [FAULTS[number % len(FAULTS)] for number in range(count)]
    lot.shuffle(drawn)
    return [
        Wish(number=number, fault=fault, caller=lot.choice(CALLERS), fails=lot.random() >= PICTURES)
        for number, fault in enumerate(drawn)
    ]


@dataclass(slots=True)
class Clock:
    """Time that passes when somebody sleeps."""

    now: float = 1_700_000_000.0

    def __call__(self) -> float:
        """Return Unix seconds."""
        return self.now

    async def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds
        await anyio.lowlevel.checkpoint()


def small_picture() -> bytes:
    """Draw what EvoLink's file host gives."""
    stream = BytesIO()
    Image.new("RGB", (8, 8), "teal").save(stream, "PNG")
    return stream.getvalue()


@dataclass(frozen=True, slots=True)
class Sent:
    """A request that left for EvoLink, and the job that it was for."""

    job_id: str
    takeable: bool


@dataclass
class Line(httpx.AsyncBaseTransport):
    """The network before the sandbox; gives the same small picture for every file."""

    sandbox: Sandbox
    courses: dict[str, Course] = field(default_factory=dict[str, Course])
    """What is under way, by prompt."""
    sent: defaultdict[str, list[Sent]] = field(default_factory=lambda: defaultdict(list))
    """By prompt."""
    came: dict[str, httpx.Response] = field(default_factory=dict[str, httpx.Response])
    """The last answer to each job."""
    picture: bytes = field(default_factory=small_picture)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Let purchases meet their fault."""
        if request.url.path.startswith("/files/"):
            return httpx.Response(200, content=self.picture)
        if request.method == "POST":
            return await self._buy(request, self.courses[json.loads(request.content)["prompt"]])
        return await self._deliver(request)

    async def _buy(self, request: httpx.Request, course: Course) -> httpx.Response:
        sent, steps = self.sent[course.wish.prompt], course.wish.fault.steps
        step = steps[len(sent)] if len(sent) < len(steps) else Step()
        job_id = request.headers["idempotency-key"]
        sent.append(Sent(job_id, step.takeable))
        course.under_way.set()
        await course.released.wait()
        answers = [await self._deliver(request) for _ in range(step.arrives)]
        self.came[job_id] = step.comes(answers)
        return self.came[job_id]

    async def _deliver(self, request: httpx.Request) -> httpx.Response:
        answer = await httpx.ASGITransport(app=self.sandbox.app).handle_async_request(request)
        content = await answer.aread()
        return httpx.Response(answer.status_code, headers=answer.headers, content=content)


@dataclass(frozen=True, slots=True)
class Report:
    """What was counted; the same for the same seed."""

    by_fault: Mapping[str, Counter[str]]
    """Wishes, the requests that left, the tasks that EvoLink made, and jobs by their state."""
    by_caller: Mapping[str, Counter[str]]
    violations: tuple[str, ...]


async def run(folder: Path, *, wishes: int, seed: int) -> Report:
    """Let wishes meet their faults, and hold the journal in `folder` against the truth."""
    clock = Clock()
    sandbox = Sandbox(credits=1e9, speed=SPEED, now=clock, sleep=clock.sleep)
    line, plan = Line(sandbox), drawn_wishes(wishes, seed=seed)
    async with _open_watchers(folder, line, clock=clock) as watchers:
        for start in range(0, wishes, AT_ONCE):
            courses = [Course(wish, watchers) for wish in plan[start : start + AT_ONCE]]
            line.courses = {course.wish.prompt: course for course in courses}
            with anyio.fail_after(PATIENCE):
                async with anyio.create_task_group() as group:
                    for course in courses:
                        group.start_soon(course.live)
    async with open_journal(_journal_in(folder), origin=BASE_URL, now=clock) as journal:
        jobs = await journal.newest(LOCAL, limit=10 * wishes)
    return _report(gather(plan, line, jobs=jobs))


@asynccontextmanager
async def _open_watchers(folder: Path, line: Line, *, clock: Clock) -> AsyncGenerator[Watchers]:
    network = Network(transport=line, sleep=clock.sleep, clock=clock)
    async with (
        open_journal(_journal_in(folder), origin=BASE_URL, now=clock) as journal,
        connect(BASE_URL, key="sk-sandbox", network=network) as api,
        open_downloads(BASE_URL, network) as downloads,
        anyio.create_task_group() as group,
    ):
        yield Watchers(
            api=api,
            downloads=downloads,
            journal=journal,
            folder=folder / "pictures",
            group=group,
            sleep=clock.sleep,
            clock=clock,
        )
        group.cancel_scope.cancel()


_BUDGET = Budget(a_picture=2.5, a_day=None)


def _journal_in(folder: Path) -> Path:
    return folder / "journal.sqlite3"


@dataclass(frozen=True, slots=True)
class Trace:
    """All that one wish left behind."""

    wish: Wish
    sent: Sequence[Sent]
    tasks: Sequence[SandboxTask]
    """What the sandbox made for it."""
    jobs: Sequence[Job]
    """What the journal says of it."""
    came: Mapping[str, httpx.Response]

    def counts(self) -> Counter[str]:
        """Count it for the report."""
        counts = Counter[str](job.state for job in self.jobs)
        return counts + Counter(wishes=1, requests=len(self.sent), tasks=len(self.tasks))

    def violations(self) -> list[str]:
        """Return what should not have been."""
        broken = {
            "more than one request that could be taken": self._is_doubled(),
            "missing from the journal": self._is_missing(),
            f"ended {self._ends()}, not {self.wish.ends}": self._ends() != sorted(self.wish.ends),
            "the journal says what is not so": not all(map(self._is_true, self.jobs)),
        }
        who = f"{self.wish.number}: {self.wish.fault.name}; caller {self.wish.caller.name}"
        return [f"{who}: {what}" for what, happened in broken.items() if happened]

    def _is_doubled(self) -> bool:
        takeable = Counter(sent.job_id for sent in self.sent if sent.takeable)
        return takeable.total() > len(self.wish.ends) or max(takeable.values(), default=0) > 1

    def _is_missing(self) -> bool:
        left = {sent.job_id for sent in self.sent} | {task.idempotency_key for task in self.tasks}
        return len(self.jobs) < len(self.wish.ends) or not left <= {job.id for job in self.jobs}

    def _ends(self) -> list[str]:
        bought = {"collected", "failed"}
        return sorted("bought" if job.state in bought else job.state for job in self.jobs)

    def _is_true(self, job: Job) -> bool:
        """Tell whether the sandbox did what the journal says."""
        made = [task for task in self.tasks if task.idempotency_key == job.id]
        if job.state == "refused":
            return not made
        if job.state == "unknown":
            return job.task_id is None
        its = [task for task in made if task.id == job.task_id]
        return bool(its) and its[0].id in self.came[job.id].text and _is_outcome(job, its[0])


def gather(plan: Sequence[Wish], line: Line, *, jobs: Sequence[Job]) -> list[Trace]:
    """Gather what each wish left behind, by its prompt."""
    tasks_of, jobs_of = defaultdict[str, list[SandboxTask]](list), defaultdict[str, list[Job]](list)
    for task in line.sandbox.tasks.values():
        tasks_of[task.request.prompt].append(task)
    for job in jobs:
        assert job.request is not None
        jobs_of[job.request.prompt].append(job)
    return [
        Trace(wish, line.sent[wish.prompt], tasks_of[wish.prompt], jobs_of[wish.prompt], line.came)
        for wish in plan
    ]


def _is_outcome(job: Job, task: SandboxTask) -> bool:
    if task.faults.fail:
        return job.state == "failed" and not job.pictures
    saved = [picture.path for picture in job.pictures if picture.path and picture.path.is_file()]
    return job.state == "collected" and len(saved) == task.n


def _report(traces: Sequence[Trace]) -> Report:
    by_fault = {fault.name: Counter[str]() for fault in FAULTS}
    by_caller = {caller.name: Counter[str]() for caller in CALLERS}
    for trace in traces:
        by_fault[trace.wish.fault.name] += trace.counts()
        by_caller[trace.wish.caller.name] += trace.counts()
    return Report(
        by_fault, by_caller, tuple(each for trace in traces for each in trace.violations())
    )


COLUMNS = ("wishes", "requests", "tasks", "collected", "failed", "refused", "unknown")


def main() -> None:
    """Run and print."""
    logging.getLogger("evolink_mcp").setLevel(logging.CRITICAL)  # the faults are meant
    began = time.perf_counter()
    with TemporaryDirectory() as folder:
        report = anyio.run(lambda: run(Path(folder), wishes=WISHES, seed=SEED))
    seconds = time.perf_counter() - began
    print(f"faults: {WISHES} wishes, {len(FAULTS)} faults, {len(CALLERS)} callers, seed {SEED}")
    for title, rows in (("fault", report.by_fault), ("caller", report.by_caller)):
        _print_table(title, rows)
    print(f"\n{len(report.violations)} violations, {seconds:.0f} s")
    print(*report.violations, sep="\n")


def _print_table(title: str, rows: Mapping[str, Counter[str]]) -> None:
    print(f"\n{title:46}", *(f"{name:>9}" for name in COLUMNS))
    for name, counts in {**rows, "all": sum(rows.values(), Counter[str]())}.items():
        print(f"{name:46}", *(f"{counts[column]:9}" for column in COLUMNS))


if __name__ == "__main__":
    main()
