"""What a person types, and what comes back: one clear line and an exit code when it goes wrong."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from evolink_mcp import __version__
from evolink_mcp.cli import commands
from tests.cli.conftest import Terminal

CTRL_C, CTRL_D = b"\x03", b"\x04"


def test_the_demo_ends_with_the_path_of_a_picture(terminal: Terminal, tmp_path: Path) -> None:
    ended = terminal.run("demo", "--speed", "100", "--size", "2:3", "a red fox in the snow")
    [picture] = (tmp_path / "pictures").glob("*.png")
    with Image.open(picture) as image:
        assert image.size == (1024, 1536)
    assert (ended.code, ended.out) == (0, f"{picture}\n")
    assert f"1024x1536 pixels, image/png, {picture.stat().st_size:,} bytes" in ended.err
    assert "pending, 0 %" in ended.err


def test_the_demo_saves_where_it_is_told_to(terminal: Terminal, tmp_path: Path) -> None:
    ended = terminal.run("demo", "--speed", "100", "-n", "2", "--output-dir", "here")
    assert len(ended.out.splitlines()) == 2
    assert sorted(map(str, (tmp_path / "here").glob("*.png"))) == sorted(ended.out.splitlines())


@pytest.mark.parametrize(
    "prompt", ["🦊❄️ 👩‍👩‍👧", "ثعلب أحمر في الثلج", "שועל \u202eabc\u202c", "\ufeff"]
)
def test_any_text_is_drawn(terminal: Terminal, tmp_path: Path, prompt: str) -> None:
    assert terminal.run("demo", "--speed", "100", prompt).code == 0
    assert len(list(tmp_path.glob("pictures/*.png"))) == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["x" * 2001], "prompt: has 2001 characters, more than 2000; allowed: a text of"),
        ([" "], "prompt: must not be blank"),
        (
            ["--size", "4:3", "fox"],
            'size: "4:3" is not accepted; allowed: 1:1, 2:3, 3:2, 1024',
        ),
        (["-n", "3", "fox"], 'n: "3" is not accepted; allowed: 1, 2 or 4.'),
        (["[fail:content_policy_violation] fox"], "EvoLink's safety filter blocked the picture"),
        (["[html:502] fox"], "it is not known whether EvoLink took it"),
        (["[garbage] fox"], "EvoLink's answer could not be read: it is not JSON."),
        (["[http:402] fox"], "There are too few EvoLink credits for this request"),
        (["[expired] fox"], "Picture 1: The file could not be fetched: its link has expired"),
    ],
)
def test_what_goes_wrong_is_one_clear_line(terminal: Terminal, words: list[str], said: str) -> None:
    ended = terminal.run("demo", "--speed", "100", *words)
    assert (ended.code, ended.out) == (1, "")
    assert ended.last_line.startswith("evolink-mcp: ")
    assert said in ended.last_line
    assert "Traceback" not in ended.err


def test_a_folder_that_cannot_be_written_is_found_out_at_once(
    terminal: Terminal, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    ended = terminal.run("demo", "--output-dir", "file/pictures", "fox")
    assert (ended.code, ended.out) == (1, "")
    assert (
        f"Pictures cannot be saved in {tmp_path}/file/pictures (Not a directory)" in ended.last_line
    )


def test_a_prompt_that_is_no_text_is_refused(terminal: Terminal) -> None:
    ended = terminal.run("demo", "fox \udcff")
    assert (ended.code, ended.last_line) == (
        2,
        "Error: Invalid value for PROMPT: it is not valid UTF-8",
    )


def test_buying_needs_a_key(terminal: Terminal) -> None:
    ended = terminal.run("generate", "a fox")
    assert (ended.code, ended.out) == (1, "")
    assert "EVOLINK_API_KEY is missing" in ended.last_line


@pytest.mark.usefixtures("box")
def test_pictures_are_bought_and_saved(terminal: Terminal, tmp_path: Path) -> None:
    ended = terminal.run("generate", "--output-dir", "out", "a red fox")
    [picture] = (tmp_path / "out").glob("*.png")
    assert (ended.code, ended.out) == (0, f"{picture}\n")


def test_pictures_are_edited(terminal: Terminal, box: str, tmp_path: Path) -> None:
    photo, mask = f"{box}/files/samples/photo.png", f"{box}/files/samples/mask.png"
    words = ("--reference", photo, "--mask", mask, "--output-dir", str(tmp_path / "out"))
    assert terminal.run("generate", *words, "make it a watercolour").code == 0
    assert terminal.run("generate", *words, "--reference", photo, "two are too many").code == 1


@pytest.mark.usefixtures("box")
def test_files_of_ones_own_are_edited(terminal: Terminal, tmp_path: Path) -> None:
    photo, mask = tmp_path / "photo.png", tmp_path / "mask.png"
    for file in (photo, mask):
        Image.new("RGB", (64, 64), "white").save(file)
    words = ("--reference", "photo.png", "--mask", str(mask), "--output-dir", "out")
    ended = terminal.run("generate", *words, "make it a watercolour")
    assert ended.code == 0
    assert "public to anyone who has their address, for 72 hours" in ended.err


@pytest.mark.usefixtures("box")
def test_a_folder_with_a_comma_in_its_name_is_opened_as_it_is(
    terminal: Terminal, tmp_path: Path
) -> None:
    (folder := tmp_path / f"a,{os.pathsep} b").mkdir()
    Image.new("RGB", (64, 64), "white").save(folder / "f.png")
    words = ("--reference", f"{folder.name}/f.png", "--output-dir", "out")
    assert terminal.run("generate", *words, "make it a watercolour").code == 0


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("ok/missing.png", "no such file: {here}/ok/missing.png"),
        ("ok", "no such file: {here}/ok"),
        ("~nobody-of-that-name/a.png", "no such user: ~nobody-of-that-name/a.png"),
        ("x" * 300, "File name too long: {here}/" + "x" * 300),
    ],
)
@pytest.mark.parametrize("option", ["--reference", "--mask"])
def test_a_file_that_is_not_there_is_told_before_anything_starts(
    terminal: Terminal, tmp_path: Path, option: str, given: str, said: str
) -> None:
    (tmp_path / "ok").mkdir()
    ended = terminal.run("generate", option, given, "--output-dir", "out", "a fox")
    told = said.format(here=tmp_path)
    assert (ended.code, ended.last_line) == (2, f"Error: Invalid value for {option}: {told}")


def test_other_addresses_are_for_the_server_to_judge(terminal: Terminal) -> None:
    for given in ("data:image/png;base64,AAAA", "evolink://tasks/none/images/1"):
        ended = terminal.run("demo", "--reference", given, "a fox")
        assert ended.code == 1
        assert ended.last_line.startswith("evolink-mcp: image_urls[0]: ")


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("all", "'all' stands for a list of models; name one"),
        ("gpt-imag-2", "did you mean gpt-image-2? To buy from gpt-imag-2 all the same: "),
        ("GPT-Image-2", "did you mean gpt-image-2? "),
        ("gemini-2.5-flash-image", "did you mean nano-banana-beta? "),
    ],
)
@pytest.mark.parametrize("option", [("--model",), ("--set", "model")])
def test_a_model_that_is_none_is_not_bought_from(
    terminal: Terminal, option: tuple[str, ...], model: str, said: str
) -> None:
    *first, last = option
    ended = terminal.run("demo", *first, f"{last}={model}", "a fox")
    assert ended.code == 2
    assert ended.last_line.startswith(f"Error: Invalid value for --model: {said}")


def test_a_model_that_no_table_knows_is_taken_if_it_is_like_none_or_named_by_the_operator(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVOLINK_MODELS", "gpt-4o-image,gpt-imag-2")
    for model in ("quite-another", "gpt-imag-2"):
        ended = terminal.run("demo", "-m", model, "a fox")
        assert ended.code == 1
        assert f"not use the model '{model}'" in ended.last_line  # says EvoLink


def test_any_model_is_taken_by_its_name_and_with_its_own_fields(
    terminal: Terminal, tmp_path: Path
) -> None:
    words = ("-m", "mj-v8.2", "--set", "quality=standard", "--set", "model_params.speed=fast")
    assert terminal.run("demo", "--speed", "100", *words, "a fox").code == 0
    assert len(list(tmp_path.glob("pictures/*.png"))) == 4


@pytest.mark.parametrize("word", ["quality", "=high"])
def test_a_further_field_without_name_or_value_is_refused(terminal: Terminal, word: str) -> None:
    ended = terminal.run("demo", "--set", word, "a fox")
    assert (ended.code, ended.last_line) == (
        2,
        f"Error: Invalid value for --set: '{word}' is no NAME=VALUE",
    )


@pytest.mark.parametrize("whole_first", [True, False])
def test_a_field_is_given_as_a_whole_or_in_parts(terminal: Terminal, *, whole_first: bool) -> None:
    given = ["--set", 'model_params={"a":1}', "--set", "model_params.speed=draft"]
    ended = terminal.run("demo", *(given if whole_first else [*given[2:], *given[:2]]), "a fox")
    assert (ended.code, ended.last_line) == (
        2,
        "Error: Invalid value for --set: model_params is given as a whole and in parts",
    )


@pytest.mark.usefixtures("box")
def test_without_a_terminal_nothing_is_bought_that_needs_a_yes(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("EVOLINK_CONFIRM", "always")
    with Path(os.devnull).open(encoding="utf-8") as nobody:
        monkeypatch.setattr("sys.stdin", nobody)
        ended = terminal.run("generate", "--output-dir", "out", "a red fox")
    assert (ended.code, ended.out) == (1, "")
    assert ended.last_line.startswith("evolink-mcp: Not bought. Nobody is asked with EVOLINK_CONF")
    assert "Tell the user" not in ended.err
    assert not list(tmp_path.glob("out/*.png"))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals of this kind")
@pytest.mark.usefixtures("box")
@pytest.mark.parametrize(
    ("typed", "code", "last_line"),
    [
        (CTRL_C, 130, ""),
        (CTRL_D, 1, "evolink-mcp: Not bought. No credits were spent."),
        (b"n\n", 1, "evolink-mcp: Not bought. No credits were spent."),
    ],
)
def test_whoever_is_asked_may_leave_at_once_and_has_bought_nothing(
    terminal: Terminal, tmp_path: Path, typed: bytes, code: int, last_line: str
) -> None:
    keyboard, line = os.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "evolink_mcp", "generate", "--output-dir", "out", "a red fox"],
        env={**os.environ, "EVOLINK_CONFIRM": "always"},
        stdin=line,
        stderr=subprocess.PIPE,
    ) as program:
        try:
            assert program.stderr is not None
            asked = b""
            while not asked.endswith(b"[y/N]: "):
                asked += program.stderr.read(1) or pytest.fail(asked.decode())
            if typed == CTRL_C:  # the program is in no session of this terminal
                program.send_signal(signal.SIGINT)
            else:
                os.write(keyboard, typed)
            assert program.wait(20) == code
            said = program.stderr.read().decode()
        finally:
            program.kill()
            os.close(keyboard)
            os.close(line)
    assert "Traceback" not in said
    assert said.strip() == last_line
    assert not list((tmp_path / "out").glob("*.png"))
    assert "Spent or reserved today: 0 credits" in terminal.run("tasks").out


@pytest.mark.usefixtures("box")
def test_a_person_waits_longer_than_one_call(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("EVOLINK_MAX_WAIT_SECONDS", "0.01")
    monkeypatch.setenv("EVOLINK_OUTPUT_DIR", str(tmp_path / "out"))
    assert terminal.run("generate", "a red fox").code == 0
    assert len(list((tmp_path / "out").glob("*.png"))) == 1


def test_with_the_sandbox_switched_on_buying_costs_nothing(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("EVOLINK_SANDBOX", "true")
    assert terminal.run("generate", "--output-dir", "out", "a red fox").code == 0
    assert len(list((tmp_path / "out").glob("*.png"))) == 1


def test_a_port_in_use_is_told(terminal: Terminal) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = terminal.run("sandbox", "--port", str(port))
    assert (ended.code, ended.out) == (1, "")
    assert ended.last_line.startswith(f"evolink-mcp: Port {port} cannot be used (")
    assert "--port" in ended.last_line


def test_a_wrong_setting_is_told_by_its_name(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVOLINK_WAIT_SECONDS", "soon")
    ended = terminal.run()
    assert (ended.code, ended.out) == (1, "")
    assert "The setting EVOLINK_WAIT_SECONDS does not work: Input should be a valid number" in (
        ended.last_line
    )


def test_an_unknown_command_is_a_wrong_call(terminal: Terminal) -> None:
    ended = terminal.run("draw")
    assert (ended.code, ended.last_line) == (2, "Error: No such command 'draw'.")


def test_help_and_version_are_there(terminal: Terminal) -> None:
    assert terminal.run("--version").out == f"evolink-mcp, version {__version__}\n"
    shown = terminal.run("--help")
    assert (shown.code, shown.err) == (0, "")
    assert all(command in shown.out for command in ("demo", "generate", "sandbox"))


@pytest.mark.parametrize(
    ("raised", "code"), [(KeyboardInterrupt(), 130), (ZeroDivisionError("sk-secret-key"), 70)]
)
def test_an_end_that_nobody_foresaw_is_still_an_orderly_one(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch, raised: BaseException, code: int
) -> None:
    def break_down() -> None:
        raise raised

    monkeypatch.setattr(commands, "read_settings", break_down)
    ended = terminal.run("demo")
    assert (ended.code, ended.out) == (code, "")
    assert "sk-secret-key" not in ended.err
