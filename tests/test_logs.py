from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evolink_mcp.logs import JOB, REQUEST, SecretFreeFormatter, configure_logging
from tests.secret_shapes import SECRETS

KEY = "sk-evo-4fQ8sT2vXw7yZ1bC3dE5"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dBjftJeZ4CVPmB92K27uhbUJU1p1r_wW"
TOKEN = "evup_4fQ8sT2vXw7yZ1bC3dE5"
SIGNED = "https://files.evolink.ai/a.png?X-Amz-Signature=5d672d79c15b13162d9279b0855cfba6"
SIGNATURE = "5d672d79c15b13162d9279b0855cfba6"
PROMPT = "a red fox in the snow"

LEVELS = ["DEBUG", "INFO", "WARNING", "ERROR"]
OURS = logging.getLogger("evolink_mcp.jobs.watch")

pytestmark = pytest.mark.usefixtures("own_logging")


@pytest.fixture
def own_logging() -> Iterator[None]:
    """Let a test configure logging, and put back what was there."""
    root, package = logging.getLogger(), logging.getLogger("evolink_mcp")
    handlers, levels = root.handlers[:], (root.level, package.level)
    root.handlers.clear()
    yield
    root.handlers[:] = handlers
    root.setLevel(levels[0])
    package.setLevel(levels[1])


def formatted(message: str, *args: object) -> str:
    record = logging.LogRecord("evolink_mcp", logging.INFO, __file__, 1, message, args, None)
    return SecretFreeFormatter("%(message)s").format(record)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("configured", LEVELS)
def test_no_secret_is_logged_at_any_level(
    capsys: pytest.CaptureFixture[str], configured: str, level: str
) -> None:
    configure_logging(configured)
    number = logging.getLevelNamesMapping()[level]
    for secret in (KEY, JWT, TOKEN, SIGNED):
        OURS.log(number, "task-unified-1 with %s and %r", secret, {"Authorization": secret})
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("task-unified-1") == (
        4 if LEVELS.index(level) >= LEVELS.index(configured) else 0
    )
    for part in (KEY, JWT, TOKEN, SIGNATURE):
        assert part not in err
        assert part[-16:] not in err


@given(SECRETS, st.text(), st.text())
def test_a_secret_is_cut_out_of_any_line(secret: str, before: str, after: str) -> None:
    assert secret[:16] not in formatted("%s %s %s", before, secret, after)
    assert secret[:16] not in formatted("%r", {"text": f"{before}\n{secret}"})


@pytest.mark.parametrize(
    ("message", "line"),
    [
        (f"saved {SIGNED}", "saved https://files.evolink.ai/a.png?[cut]"),
        (f"saved {SIGNED} as a.png", "saved https://files.evolink.ai/a.png?[cut] as a.png"),
        ("HTTPS://files.evolink.ai/a?s=1", "HTTPS://files.evolink.ai/a?[cut]"),
        ("http://127.0.0.1:80/a#s=1", "http://127.0.0.1:80/a?[cut]"),
        ("https://x.example/it's.png?s=1'2\"3", "https://x.example/it's.png?[cut]"),
        ("https://x.example/a.png", "https://x.example/a.png"),
        ("is it? yes", "is it? yes"),
        ("one\ntwo\r\nthree\x1b[31m\u202e\u2028", "one two  three [31m  "),
    ],
)
def test_a_line_is_one_line_without_signed_parts(message: str, line: str) -> None:
    assert formatted("%s", message) == line


def fail(words: str) -> None:
    raise ValueError(words)


def fail_twice(words: str) -> None:
    try:
        fail(words)
    except ValueError as error:
        raise RuntimeError(words) from error


def test_an_exception_is_logged_without_its_words(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("DEBUG")
    try:
        fail_twice(f"{PROMPT} {KEY} {SIGNED}")
    except RuntimeError:
        OURS.exception("The task could not be watched.")
    out, err = capsys.readouterr()
    assert out == ""
    assert "ERROR evolink_mcp.jobs.watch: The task could not be watched.\n" in err
    assert "in fail_twice" in err
    assert err.endswith("RuntimeError (its text is not logged)\n")
    assert PROMPT not in err
    assert KEY not in err
    assert SIGNATURE not in err


def logged(capsys: pytest.CaptureFixture[str], error: BaseException) -> str:
    """Log an exception; return types and joints, without the places."""
    configure_logging("DEBUG")
    OURS.error("lost", exc_info=error)
    lines = capsys.readouterr().err.splitlines()[1:]
    return " ".join(line for line in lines if not line.startswith("  "))


def test_the_causes_of_an_exception_are_logged_without_their_words(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(RuntimeError) as raised:
        fail_twice(PROMPT)
    unread = "(its text is not logged)"
    assert logged(capsys, raised.value) == (
        f"ValueError {unread} which led to RuntimeError {unread}"
    )
    group = ExceptionGroup(PROMPT, [KeyError(PROMPT), ExceptionGroup(KEY, [raised.value])])
    assert logged(capsys, group) == (
        f"ExceptionGroup {unread} which holds KeyError {unread} which holds ExceptionGroup {unread}"
        f" which holds ValueError {unread} which led to RuntimeError {unread}"
    )


def test_exceptions_that_caused_each_other_are_logged_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    first, second = ValueError(PROMPT), KeyError(PROMPT)
    first.__cause__, second.__cause__ = second, first
    unread = "(its text is not logged)"
    assert logged(capsys, first) == f"KeyError {unread} which led to ValueError {unread}"


@pytest.mark.parametrize(
    ("exc_info", "ending"),
    [
        (True, "no exception\n"),
        (KeyError(PROMPT), "KeyError (its text is not logged)\n"),
    ],
)
def test_an_exception_that_was_never_raised_has_no_words_either(
    capsys: pytest.CaptureFixture[str], *, exc_info: bool | BaseException, ending: str
) -> None:
    configure_logging("DEBUG")
    OURS.error("lost", exc_info=exc_info)
    _, err = capsys.readouterr()
    assert err.endswith(f"lost\n{ending}")
    assert PROMPT not in err


def test_what_another_handler_wrote_of_an_exception_is_not_taken_over(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure_logging("DEBUG")
    elsewhere = io.StringIO()
    OURS.addHandler(other := logging.StreamHandler(elsewhere))
    OURS.error("lost", exc_info=ValueError(PROMPT))
    OURS.removeHandler(other)
    _, err = capsys.readouterr()
    assert PROMPT in elsewhere.getvalue()
    assert PROMPT not in err


@pytest.mark.parametrize("configured", LEVELS)
@pytest.mark.parametrize("library", ["httpx2", "httpcore2", "mcp.server", "uvicorn.access", "PIL"])
def test_a_library_is_silent_below_a_warning(
    capsys: pytest.CaptureFixture[str], library: str, configured: str
) -> None:
    configure_logging(configured)
    logger = logging.getLogger(library)
    logger.debug("POST %s", PROMPT)
    logger.info("POST %s", PROMPT)
    assert capsys.readouterr() == ("", "")
    logger.warning("slow %s", KEY)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.endswith(f"WARNING {library}: slow [redacted]\n")


def test_configuring_again_does_not_double_the_lines(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("INFO")
    configure_logging("INFO")
    OURS.info("once")
    assert capsys.readouterr().err.count("once") == 1


def test_a_line_of_json_is_one_object_without_secrets(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("INFO", "json")
    OURS.info("saved %s\nwith %s", SIGNED, KEY)
    named, working = REQUEST.set("a1b2"), JOB.set("run_1")
    try:
        fail(PROMPT)
    except ValueError:
        OURS.exception("lost")
    OURS.info("joined", extra={"job": "run_2"})
    REQUEST.reset(named)
    JOB.reset(working)
    lines = capsys.readouterr().err.splitlines()
    saved, lost, joined = map(json.loads, lines)
    assert saved.pop("at").endswith("+00:00")
    assert saved == {
        "level": "INFO",
        "logger": OURS.name,
        "message": "saved https://files.evolink.ai/a.png?[cut] with [redacted]",
    }
    assert (lost["request"], lost["job"]) == ("a1b2", "run_1")
    assert (joined["request"], joined["job"]) == ("a1b2", "run_2")
    assert lost["message"].startswith("lost\n")
    assert PROMPT not in lines[1]
