from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import MISSING, fields

import pytest
from hypothesis import given
from hypothesis import strategies as st
from inline_snapshot import snapshot

from evolink_mcp import errors
from evolink_mcp.errors import (
    EvolinkError,
    InvalidRequest,
    KeyMissing,
    OutcomeUnknown,
    Problem,
    RateLimited,
    quote_foreign,
    redact,
)
from tests.secret_shapes import SECRETS


def drawn_tree() -> Iterator[tuple[int, str]]:
    """Yield depth and name of each class that the module's docstring draws."""
    for line in (errors.__doc__ or "").splitlines():
        if drawn := re.match(r"( *)[*x+] (\w+)", line):
            yield len(drawn[1]) // 2, drawn[2]


def real_tree(kind: type[EvolinkError], depth: int = 0) -> Iterator[tuple[int, type[EvolinkError]]]:
    yield depth, kind
    for child in kind.__subclasses__():
        yield from real_tree(child, depth + 1)


def default(kind: type[EvolinkError], name: str) -> object:
    (value,) = (field.default for field in fields(kind) if field.name == name)
    return "given" if value is MISSING else value


def test_the_docstring_draws_the_real_tree() -> None:
    real = list(real_tree(EvolinkError))
    assert list(drawn_tree()) == [(depth, kind.__name__) for depth, kind in real]
    assert {kind.__module__ for _, kind in real} == {"evolink_mcp.errors"}
    assert max(depth for depth, _ in real) == 2


def test_every_kind_says_whether_to_try_again_and_what_it_cost() -> None:
    told = {
        kind.__name__: tuple(default(kind, name) for name in ("code", "retryable", "charged"))
        for _, kind in real_tree(EvolinkError)
    }
    assert told == snapshot(
        {
            "EvolinkError": ("error", False, "no"),
            "InvalidRequest": ("invalid_request", False, "no"),
            "SettingInvalid": ("setting_invalid", False, "no"),
            "KeyMissing": ("key_missing", False, "no"),
            "JournalUnusable": ("journal_unusable", False, "no"),
            "CapReached": ("daily_cap_reached", False, "no"),
            "ConfirmationNeeded": ("confirmation_needed", False, "no"),
            "PurchaseDeclined": ("declined", False, "no"),
            "RefusedByEvolink": ("error", False, "no"),
            "RequestRejected": ("request_rejected", False, "no"),
            "ContentBlocked": ("content_blocked", False, "no"),
            "KeyRejected": ("key_rejected", False, "no"),
            "CreditExhausted": ("credit_exhausted", False, "no"),
            "AccessDenied": ("access_denied", False, "no"),
            "TaskNotFound": ("task_not_found", False, "no"),
            "FileQuotaReached": ("file_quota_reached", False, "no"),
            "RateLimited": ("rate_limited", True, "no"),
            "ServiceFailed": ("service_failed", True, "no"),
            "NoUsableAnswer": ("no_answer", True, "no"),
            "NeverSent": ("unreachable", True, "no"),
            "AnswerLost": ("answer_lost", True, "no"),
            "AnswerUnreadable": ("answer_unreadable", True, "no"),
            "OutcomeUnknown": ("outcome_unknown", False, "unknown"),
            "TaskFailed": ("error", False, "no"),
            "WaitAbandoned": ("wait_abandoned", True, "yes"),
            "PicturesUnsaved": ("pictures_unsaved", True, "yes"),
            "UploadUnfinished": ("uploading", True, "no"),
            "ServerStopping": ("server_stopping", True, "no"),
            "FileUnavailable": ("file_unavailable", False, "no"),
        }
    )


def test_every_kind_is_an_exception_that_says_its_message() -> None:
    error = OutcomeUnknown(message="Nobody knows.", next_step="Look.")
    with pytest.raises(EvolinkError, match=r"^Nobody knows\.$"):
        raise error
    assert (error.code, error.retryable, error.charged) == ("outcome_unknown", False, "unknown")


def test_equal_words_are_not_the_same_failure() -> None:
    first, second = (RateLimited(message="Wait.", next_step="Wait.", status=429) for _ in "12")
    assert first != second
    assert len({first, second}) == 2


def test_a_missing_key_names_its_setting() -> None:
    assert KeyMissing(message="No key.", next_step="Set it.").setting == "EVOLINK_API_KEY"


def test_broken_rules_are_said_in_one_sentence_each() -> None:
    error = InvalidRequest(
        problems=(
            Problem("n", "3 is not accepted", "1, 2 or 4"),
            Problem("prompt", "must not be blank", "a text"),
        )
    )
    assert str(error) == error.message
    assert error.message == (
        "n: 3 is not accepted; allowed: 1, 2 or 4. prompt: must not be blank; allowed: a text."
    )
    assert error.next_step == "Change the named arguments and call again."


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("The prompt is too long.", '"The prompt is too long."'),
        ("", '""'),
        (" \n\t ", '""'),
        ("two\nlines\r\nand\ttabs", '"two lines and tabs"'),
        ('say "yes" and go', "\"say 'yes' and go\""),
        ("\x1b[31mred\x1b[0m\x07", '"[31mred [0m"'),
        ("left\u202eright\u2066\u200f", '"left right"'),
        ("one\u2028two\u2029three\x85four", '"one two three four"'),
        ("half \ud83e", '"half"'),
        ("seen" + "".join(chr(0xE0000 + ord(char)) for char in "unseen"), '"seen"'),
        ("seen" + "\U000e0101\ufe01" * 20, '"seen"'),
        ("seen\u115f\u1160\u3164\uffa0\u034f", '"seen"'),
        ("\ufff9a\ufffab\ufffb", '"a b"'),
        ("提示词过长 🦊", '"提示词过长 🦊"'),
        ("key sk-evo-0123456789abcdef is off", '"key [redacted] is off"'),
        ("x" * 300, '"' + "x" * 300 + '"'),
        ("x" * 301, '"' + "x" * 299 + '…"'),
        ("\n" * 1000 + "x" * 300, '"' + "x" * 300 + '"'),
    ],
)
def test_foreign_text_is_quoted(text: str, shown: str) -> None:
    assert quote_foreign(text) == shown


@given(st.text() | st.text(st.characters(categories=["Cc", "Cf", "Zl", "Zp", "Cs", "Po"])))
def test_foreign_text_is_one_harmless_line(text: str) -> None:
    quoted = quote_foreign(text * 20)
    inner = quoted[1:-1]
    assert quoted[0] == quoted[-1] == '"'
    assert '"' not in inner
    assert len(inner) <= 300
    assert len(quoted.splitlines()) == 1
    assert {unicodedata.category(char) for char in inner}.isdisjoint({"Cc", "Cf", "Cs", "Zl", "Zp"})
    assert quote_foreign(inner) == quoted


@given(SECRETS, st.text(), st.text())
def test_a_secret_is_never_quoted(secret: str, before: str, after: str) -> None:
    for text in (f"{before} {secret} {after}", f"密钥{secret}错误", f"key={secret}&x=1"):
        assert secret[:16] not in quote_foreign(text)


@given(SECRETS)
@pytest.mark.parametrize(
    "template",
    [
        "{}",
        "Bearer {}",
        '{{"api_key":"{}"}}',
        "密钥{}无效",
        "api_key_{}",
        "/{}/",
        "Bearer%20{}",
        "key%3D{}",
        "key%3d{}",
        "'line\\n{}'",
        "'line\\t{}'",
        "<{}>",
        "x:{}:y",
    ],
)
def test_a_secret_is_redacted_wherever_it_stands(template: str, secret: str) -> None:
    redacted = redact(template.format(secret))
    assert secret[:16] not in redacted
    assert redacted.startswith(template.partition("{}")[0].replace("{{", "{"))
    assert "[redacted]" in redacted


@pytest.mark.parametrize(
    "text",
    [
        "task-unified-1757156493-imcg5zqt",
        "disk-encryption risk-averse",
        "%20task-unified-1757156493-imcg5zqt",
        "\\task-unified-1757156493-imcg5zqt",
        "sk-evo",
        "evup_",
        "eyJhbGciOiJIUzI1",
        "ask-",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redact(text) == text
