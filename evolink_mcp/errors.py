"""Every failure we anticipate.

Named by what the reader can do about it:

* EvolinkError
  x InvalidRequest            an argument breaks a rule: change it
  x SettingInvalid            a setting is wrong: the operator changes it
    + KeyMissing
    + JournalUnusable         the record of jobs is damaged, newer, locked or has no room
    + CapReached              today's credits are spent
    + ConfirmationNeeded      the user has to agree first: ask, then again with confirm
  x PurchaseDeclined          the host said no to it: tell the user, buy nothing
  x RefusedByEvolink          EvoLink answered with an error
    + RequestRejected         change the request
    + ContentBlocked          change prompt or reference images
    + KeyRejected             get a working key
    + CreditExhausted         top up
    + AccessDenied            use what the key may use
    + TaskNotFound            check the task id
    + FileQuotaReached        upload nothing for now: older uploads have to expire first
    + RateLimited             wait, then again
    + ServiceFailed           EvoLink is in trouble: later
  x NoUsableAnswer            the exchange itself broke
    + NeverSent               the request provably did not leave: again
    + AnswerLost              sent, and nothing came back
    + AnswerUnreadable        something came back that is not EvoLink's
  x OutcomeUnknown            a paid request may or may not have been taken
  x TaskFailed                the task ended without pictures
  x WaitAbandoned             the task did not end while we looked
    + PicturesUnsaved         it ended, and pictures of it are not on disk yet
  x UploadUnfinished          a file is still being uploaded, and nothing is bought yet
  x ServerStopping            this server ends: the same call once it is back
  x FileUnavailable           a picture behind an address could not be fetched
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Charged = Literal["no", "yes", "unknown"]
"""Whether the failure cost credits."""

QUOTE_LIMIT = 300
"""Characters of foreign text that an answer may carry."""

_SECRETS = re.compile(
    # A word may end in "sk-" (task-, disk-), unless an escape (%3D, \n) stands before it.
    r"(?:(?<![A-Za-z0-9])|(?<=%[0-9A-Fa-f]{2})|(?<=\\[nrt]))sk-[A-Za-z0-9_-]{6,}"
    r"|ev(?:up|m|c)_[A-Za-z0-9_-]{6,}|eyJ[A-Za-z0-9_.-]{16,}"
)
_UNSEEN = re.compile(
    "[\u034f\u115f\u1160\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0000-\U000e0fff]"
)
"""Characters that count as printable and draw nothing: they can carry text that nobody sees."""


def redact(text: str) -> str:
    """Replace whatever looks like a key, a token, a JWT or an address that EvoLink calls back.

    The shapes are those EvoLink's own clients redact (vendor client).
    """
    return _SECRETS.sub("[redacted]", text)


def quote_foreign(text: str) -> str:
    """Make text from EvoLink safe to show: one line, cut, no control characters, in quotes."""
    seen = (char if char.isprintable() else " " for char in _UNSEEN.sub(" ", text))
    line = redact(" ".join("".join(seen).split())).replace('"', "'")
    cut = line if len(line) <= QUOTE_LIMIT else line[: QUOTE_LIMIT - 1] + "…"
    return f'"{cut}"'


@dataclass(frozen=True, slots=True)
class Problem:
    """One broken rule: the field, the rule and what is allowed."""

    field: str
    rule: str
    allowed: str

    def __str__(self) -> str:
        """Say it in one sentence."""
        return f"{self.field}: {self.rule}; allowed: {self.allowed}."


@dataclass(kw_only=True, eq=False)
class EvolinkError(Exception):
    """A failure we anticipate, with what the caller needs to go on."""

    message: str
    next_step: str
    code: str = "error"
    """Stable word for the kind of failure."""
    retryable: bool = False
    """Whether the same call may succeed later."""
    charged: Charged = "no"

    def __str__(self) -> str:
        """Return the message."""
        return self.message


@dataclass(kw_only=True, eq=False)
class InvalidRequest(EvolinkError):
    """Arguments that break a rule; nothing was sent."""

    code: str = "invalid_request"

    problems: tuple[Problem, ...]
    message: str = ""
    next_step: str = "Change the named arguments and call again."

    def __post_init__(self) -> None:
        """Compose the message from the problems."""
        self.message = " ".join(map(str, self.problems))


@dataclass(kw_only=True, eq=False)
class SettingInvalid(EvolinkError):
    """A setting that does not work; only the operator can change it."""

    code: str = "setting_invalid"

    setting: str


@dataclass(kw_only=True, eq=False)
class KeyMissing(SettingInvalid):
    """No API key, a blank one, or a placeholder that nobody filled in."""

    code: str = "key_missing"

    setting: str = "EVOLINK_API_KEY"


@dataclass(kw_only=True, eq=False)
class JournalUnusable(SettingInvalid):
    """The record of jobs cannot be read or written, so that nothing may be bought."""

    code: str = "journal_unusable"

    setting: str = "EVOLINK_DATA_DIR"


@dataclass(kw_only=True, eq=False)
class CapReached(SettingInvalid):
    """The purchase would pass the credits that the operator allows for a day."""

    code: str = "daily_cap_reached"

    setting: str = "EVOLINK_DAILY_CREDITS"


@dataclass(kw_only=True, eq=False)
class ConfirmationNeeded(SettingInvalid):
    """The operator wants the user to agree before credits are spent."""

    code: str = "confirmation_needed"

    setting: str = "EVOLINK_CONFIRM"


@dataclass(kw_only=True, eq=False)
class PurchaseDeclined(EvolinkError):
    """The host was asked about a purchase and did not agree; the user may not have seen it."""

    code: str = "declined"


@dataclass(kw_only=True, eq=False)
class RefusedByEvolink(EvolinkError):
    """EvoLink answered with an error: `status` is HTTP's, `said` is EvoLink's own text."""

    status: int
    upstream_code: str = ""
    said: str = ""
    request_id: str = ""
    retry_after: float | None = None
    """Seconds that EvoLink asked to wait."""
    own_body: bool = True
    """Whether the body was EvoLink's error object, not a proxy's page."""


@dataclass(kw_only=True, eq=False)
class RequestRejected(RefusedByEvolink):
    """EvoLink does not take this request as it is (400, 409, 413, 415)."""

    code: str = "request_rejected"


@dataclass(kw_only=True, eq=False)
class ContentBlocked(RefusedByEvolink):
    """The content filter stopped the request before it became a task."""

    code: str = "content_blocked"


@dataclass(kw_only=True, eq=False)
class KeyRejected(RefusedByEvolink):
    """The key is wrong, disabled or expired (401)."""

    code: str = "key_rejected"


@dataclass(kw_only=True, eq=False)
class CreditExhausted(RefusedByEvolink):
    """The account or the key has too few credits (402)."""

    code: str = "credit_exhausted"


@dataclass(kw_only=True, eq=False)
class AccessDenied(RefusedByEvolink):
    """The key may not do this (403)."""

    code: str = "access_denied"


@dataclass(kw_only=True, eq=False)
class TaskNotFound(RefusedByEvolink):
    """EvoLink knows no such task, or no longer (404)."""

    code: str = "task_not_found"


@dataclass(kw_only=True, eq=False)
class FileQuotaReached(RefusedByEvolink):
    """The account stores as many files as it may (Files API, 40003)."""

    code: str = "file_quota_reached"


@dataclass(kw_only=True, eq=False)
class RateLimited(RefusedByEvolink):
    """Too many requests (429)."""

    code: str = "rate_limited"
    retryable: bool = True


@dataclass(kw_only=True, eq=False)
class ServiceFailed(RefusedByEvolink):
    """EvoLink or something before it is in trouble (5xx, no route to the model)."""

    code: str = "service_failed"
    retryable: bool = True


@dataclass(kw_only=True, eq=False)
class NoUsableAnswer(EvolinkError):
    """The exchange broke before an answer of EvoLink's could be read."""

    code: str = "no_answer"
    retryable: bool = True


@dataclass(kw_only=True, eq=False)
class NeverSent(NoUsableAnswer):
    """The request provably did not leave this machine."""

    code: str = "unreachable"


@dataclass(kw_only=True, eq=False)
class AnswerLost(NoUsableAnswer):
    """The request may have arrived; its answer did not."""

    code: str = "answer_lost"


@dataclass(kw_only=True, eq=False)
class AnswerUnreadable(NoUsableAnswer):
    """An answer came that is not one of EvoLink's."""

    code: str = "answer_unreadable"


@dataclass(kw_only=True, eq=False)
class OutcomeUnknown(EvolinkError):
    """A paid request left and nobody can say whether EvoLink took it."""

    code: str = "outcome_unknown"

    charged: Charged = "unknown"


@dataclass(kw_only=True, eq=False)
class TaskFailed(EvolinkError):
    """EvoLink ended the task without pictures; `code` is EvoLink's own."""

    task_id: str


@dataclass(kw_only=True, eq=False)
class WaitAbandoned(EvolinkError):
    """The task did not end in the time we look after one."""

    code: str = "wait_abandoned"
    retryable: bool = True

    charged: Charged = "yes"


@dataclass(kw_only=True, eq=False)
class PicturesUnsaved(WaitAbandoned):
    """The task is over and paid for, and pictures of it are not on disk yet."""

    code: str = "pictures_unsaved"


@dataclass(kw_only=True, eq=False)
class UploadUnfinished(EvolinkError):
    """A file is on its way to EvoLink for longer than the call may wait; nothing is bought."""

    code: str = "uploading"
    retryable: bool = True


@dataclass(kw_only=True, eq=False)
class ServerStopping(EvolinkError):
    """This server ends before it can answer otherwise."""

    code: str = "server_stopping"
    retryable: bool = True


@dataclass(kw_only=True, eq=False)
class FileUnavailable(EvolinkError):
    """A file behind an address that could not be fetched, or may not be."""

    code: str = "file_unavailable"
