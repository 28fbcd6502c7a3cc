"""Faults on request: markers in a prompt that make the sandbox misbehave.

| marker | what happens |
|---|---|
| `[fail:CODE]` | the task fails with that error code, any word |
| `[http:503]` | the next POST of this very prompt is refused with that status; no task is made |
| `[http:503x2]` | the same for the next 2 POSTs; then it works |
| `[http:429+7]` | the same, with `Retry-After: 7`; also `[http:429x2+7]` |
| `[html:502]` | the same, with a page of HTML in place of EvoLink's error |
| `[poll:500x3]`, `[poll:429+1]` | the same for the first GETs of the task |
| `[pollhtml:502]` | the same, with a page of HTML |
| `[moderated]` | the POST is refused with 400 `content_policy_violation`, every time |
| `[hang]` | the task is made and charged, and the POST is never answered |
| `[cut-after-accept]` | made and charged, and the connection breaks within the answer |
| `[garbage]` | made and charged, and the answer, with status 200, is not JSON |
| `[slow:30]` | the task takes 30 seconds, divided by the sandbox's speed |
| `[stuck]` | the task stays at 40 % and never ends |
| `[status:WORD]` | the task ends with a status that nobody has documented |
| `[partial:1]` | 1 picture is made, however many were asked for |
| `[empty]` | the task completes with an empty list of results |
| `[result-data]` | the task completes with `result_data` in place of `results` |
| `[expired]` | the links of the results have expired from the start |
| `[not-an-image]` | the file behind a link is a page of HTML, with status 200 |
| `[truncated]` | the file behind a link is half a PNG |
| `[orders]` | the task fails, and its message tries to command a language model |

Statuses are 400, 401, 402, 403, 404, 409, 413, 415, 429, 500, 502, 503 and 504. Markers combine,
and several refusals follow each other: `[http:503] [http:429+1]`. Anything else in brackets is
part of the prompt.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, cast, get_args

from evolink_mcp.sandbox.refusals import Reason, Refused

Flag = Literal[
    "moderated",
    "hang",
    "cut-after-accept",
    "garbage",
    "stuck",
    "empty",
    "result-data",
    "expired",
    "not-an-image",
    "truncated",
    "orders",
]
"""Markers without a value."""

_MARKER = re.compile(
    rf"""\[(?:
        (?P<call>http|html|poll|pollhtml):(?P<refusal>40[0-4]|409|413|415|429|50[0234])
            (?:x(?P<times>[1-9][0-9]?))?(?:\+(?P<wait>[0-9]{{1,4}}))?
      | fail:(?P<fail>[A-Za-z0-9_.-]+)
      | status:(?P<status>[A-Za-z0-9_.-]+)
      | slow:(?P<slow>[0-9]{{1,6}}(?:\.[0-9]{{1,3}})?)
      | partial:(?P<partial>[0-9]{{1,2}})
      | (?P<flag>{"|".join(get_args(Flag))})
    )\]""",
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class ForcedRefusal:
    """One request that is to be refused."""

    status: int
    retry_after: int | None
    html: bool

    def refused(self, reasons: Mapping[int, Reason]) -> Refused:
        """Return the refusal in the words of the call it is for."""
        return Refused(
            status=self.status,
            reason=reasons[self.status],
            retry_after=self.retry_after,
            html=self.html,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """What a prompt asks the sandbox to do wrong."""

    submits: tuple[ForcedRefusal, ...] = ()
    """Refusals of the first POSTs, in their order."""
    polls: tuple[ForcedRefusal, ...] = ()
    """Refusals of the task's first GETs, in their order."""
    fail: str | None = None
    status: str | None = None
    seconds: float | None = None
    """How long the task takes at speed 1."""
    partial: int | None = None
    flags: frozenset[Flag] = frozenset()


def read_faults(prompt: str) -> Faults:
    """Read the markers of a prompt; of two that contradict each other the later one counts."""
    found = list(_MARKER.finditer(prompt))
    words = {name: text for match in found for name, text in match.groupdict().items() if text}
    return Faults(
        submits=_refusals(found, ("http", "html")),
        polls=_refusals(found, ("poll", "pollhtml")),
        fail=words.get("fail"),
        status=words.get("status"),
        seconds=float(words["slow"]) if "slow" in words else None,
        partial=int(words["partial"]) if "partial" in words else None,
        flags=frozenset(cast("Flag", match["flag"]) for match in found if match["flag"]),
    )


def without_markers(prompt: str) -> str:
    """Return the prompt as it is to be drawn."""
    bare, count = _MARKER.subn(" ", prompt)
    return " ".join(bare.split()) if count else prompt


def _refusals(found: list[re.Match[str]], calls: tuple[str, ...]) -> tuple[ForcedRefusal, ...]:
    return tuple(
        _refusal(match)
        for match in found
        if match["call"] in calls
        for _ in range(int(match["times"] or 1))
    )


def _refusal(match: re.Match[str]) -> ForcedRefusal:
    wait = int(match["wait"]) if match["wait"] else None
    return ForcedRefusal(int(match["refusal"]), wait, match["call"].endswith("html"))
