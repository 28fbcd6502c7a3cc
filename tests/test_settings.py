from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from string import ascii_letters, digits

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from platformdirs import user_data_path, user_pictures_path
from pydantic import SecretStr, ValidationError

from evolink_mcp.errors import KeyMissing, SettingInvalid
from evolink_mcp.settings import CallbackHosts, Confirm, Settings, is_unfilled, read_settings

KEY = "sk-evo-4fQ8sT2vXw7yZ1bC3dE5"

DEFAULTS: Mapping[str, object] = {
    "api_key": None,
    "base_url": "https://api.evolink.ai",
    "files_url": None,
    "public_url": None,
    "callback_hosts": CallbackHosts(),
    "default_model": None,
    "input_dirs": (),
    "confirm": Confirm(),
    "models": ("gpt-4o-image",),
    "output_dir": None,
    "data_dir": None,
    "daily_credits": None,
    "wait_seconds": 45.0,
    "max_wait_seconds": 600.0,
    "preview": "preview",
    "sandbox": False,
    "log_level": "WARNING",
    "log_format": "text",
    "tokens_file": None,
    "oauth_issuer": None,
    "oauth_audience": None,
    "oauth_scopes": (),
    "allowed_hosts": (),
    "allowed_origins": (),
    "trusted_proxies": (),
}

UNFILLED = [
    "",
    " ",
    "\t\n",
    '""',
    "''",
    "${EVOLINK_API_KEY}",
    "${user_config.api_key}",
    "${env:EVOLINK_API_KEY}",
    "${input:evolink-key}",
    '"${EVOLINK_API_KEY}"',
    " ${EVOLINK_API_KEY} ",
    "$EVOLINK_API_KEY",
    "%EVOLINK_API_KEY%",
    "<EVOLINK_API_KEY>",
    "<your key>",
    "{{EVOLINK_API_KEY}}",
    "__encrypted__:djEwAAAA",
]

NO_KEYS = [
    *UNFILLED,
    "YOUR_API_KEY",
    "your_api_key",
    "your-api-key",
    "YOUR API KEY",
    "YOUR_EVOLINK_API_KEY",
    "your-evolink-api-key-here",
    "MY_KEY",
    "INSERT_KEY",
    "REPLACE_ME",
    "replace-with-your-key",
    "change-me",
    "changeme",
    "enter your key",
    "paste-key-here",
    "api_key",
    "API-KEY",
    "apikey",
    "EVOLINK_API_KEY",
    "evolink-api-key",
    "sk-your-key",
    "sk-evo-your-key-here",
    "sk-evo-YOUR_KEY",
    "sk-...",
    "sk-evo-...",
    "sk-evo-…",
    "sk-***",
    "sk-",
    "sk-evo-",
    "sk-xxx",
    "sk-evo-xxxxxxxxxxxxxxxx",
    "sk-XXXX-XXXX",
    "xxxxxxxx",
    "...",
    "none",
    "None",
    "null",
    "undefined",
    "TODO",
    "Bearer",
    "Bearer ",
    "Bearer <token>",
    "Bearer YOUR_API_KEY",
    "Bearer ${EVOLINK_API_KEY}",
    "bearer $EVOLINK_API_KEY",
]


@pytest.fixture(autouse=True)
def nothing_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"EVOLINK_{name.upper()}", raising=False)


def read_with(variables: Mapping[str, str]) -> Settings:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        return read_settings()


def values_of(settings: Settings) -> dict[str, object]:
    return {name: getattr(settings, name) for name in Settings.model_fields}


def test_nothing_needs_to_be_set() -> None:
    settings = read_settings()
    assert values_of(settings) == DEFAULTS
    assert settings.environment() == {}


@pytest.mark.parametrize(
    ("variable", "text", "value"),
    [
        ("EVOLINK_API_KEY", KEY, SecretStr(KEY)),
        ("EVOLINK_API_KEY", f' "{KEY}"\n', SecretStr(KEY)),
        ("EVOLINK_API_KEY", f"Bearer {KEY}", SecretStr(KEY)),
        ("EVOLINK_API_KEY", f"bearer  {KEY}", SecretStr(KEY)),
        ("EVOLINK_API_KEY", "another-shape_of.key", SecretStr("another-shape_of.key")),
        ("EVOLINK_BASE_URL", "https://gateway.example/evolink/", "https://gateway.example/evolink"),
        ("EVOLINK_BASE_URL", "http://127.0.0.1:8765", "http://127.0.0.1:8765"),
        ("EVOLINK_BASE_URL", ' "https://api.example" ', "https://api.example"),
        ("EVOLINK_MODELS", "gpt-4o-image", ("gpt-4o-image",)),
        ("EVOLINK_MODELS", " gpt-4o-image, z-image-turbo ,", ("gpt-4o-image", "z-image-turbo")),
        ("EVOLINK_MODELS", "all", ("all",)),
        ("EVOLINK_FILES_URL", "https://files.example/", "https://files.example"),
        ("EVOLINK_PUBLIC_URL", "https://mcp.example/", "https://mcp.example"),
        ("EVOLINK_DEFAULT_MODEL", ' "gpt-image-2" ', "gpt-image-2"),
        ("EVOLINK_INPUT_DIRS", "/a", (Path("/a"),)),
        ("EVOLINK_INPUT_DIRS", f"/a{os.pathsep} /b,{os.pathsep}", (Path("/a"), Path("/b"))),
        ("EVOLINK_INPUT_DIRS", "/a/Photos, 2024", (Path("/a/Photos, 2024"),)),
        ("EVOLINK_INPUT_DIRS", "/a,b,, /c", (Path("/a,b"), Path("/c"))),
        ("EVOLINK_INPUT_DIRS", '"/a", "/b"', (Path("/a"), Path("/b"))),
        ("EVOLINK_INPUT_DIRS", "/a, ~/b", (Path("/a"), Path("~/b").expanduser())),
        ("EVOLINK_INPUT_DIRS", ' ["/a,/b", "/c:d ;"]', (Path("/a,/b"), Path("/c:d ;"))),
        ("EVOLINK_INPUT_DIRS", "[]", ()),
        ("EVOLINK_CALLBACK_HOSTS", " Any ", CallbackHosts()),
        ("EVOLINK_CALLBACK_HOSTS", '"none"', CallbackHosts(())),
        (
            "EVOLINK_CALLBACK_HOSTS",
            "Hooks.example.com, *.example.org,",
            CallbackHosts(("hooks.example.com", "*.example.org")),
        ),
        ("EVOLINK_CONFIRM", "never", Confirm()),
        ("EVOLINK_CONFIRM", " Always ", Confirm("always")),
        ("EVOLINK_CONFIRM", "above:10", Confirm("above", 10.0)),
        ("EVOLINK_CONFIRM", "above: 2.5", Confirm("above", 2.5)),
        ("EVOLINK_DAILY_CREDITS", "0", 0.0),
        ("EVOLINK_DAILY_CREDITS", "12.5", 12.5),
        ("EVOLINK_WAIT_SECONDS", "0", 0.0),
        ("EVOLINK_WAIT_SECONDS", "3600", 3600.0),
        ("EVOLINK_WAIT_SECONDS", "12.5", 12.5),
        ("EVOLINK_MAX_WAIT_SECONDS", "0", 0.0),
        ("EVOLINK_MAX_WAIT_SECONDS", "86400", 86_400.0),
        ("EVOLINK_PREVIEW", "preview", "preview"),
        ("EVOLINK_PREVIEW", "full", "full"),
        ("EVOLINK_PREVIEW", "none", "none"),
        ("EVOLINK_SANDBOX", "1", True),
        ("EVOLINK_SANDBOX", "true", True),
        ("EVOLINK_SANDBOX", "0", False),
        ("EVOLINK_LOG_FORMAT", "json", "json"),
        ("EVOLINK_LOG_FORMAT", " TEXT ", "text"),
        ("EVOLINK_TOKENS_FILE", "/etc/evolink/tokens.toml", Path("/etc/evolink/tokens.toml")),
        ("EVOLINK_OAUTH_ISSUER", "https://login.example/", "https://login.example/"),
        ("EVOLINK_OAUTH_ISSUER", "http://127.0.0.1:9000/realm", "http://127.0.0.1:9000/realm"),
        ("EVOLINK_OAUTH_AUDIENCE", "https://mcp.example/mcp", "https://mcp.example/mcp"),
        ("EVOLINK_OAUTH_SCOPES", "images:buy, images:see", ("images:buy", "images:see")),
        (
            "EVOLINK_ALLOWED_HOSTS",
            "MCP.example.com, intra:8443,[fd00::1],10.0.0.1:80",
            ("mcp.example.com", "intra:8443", "[fd00::1]", "10.0.0.1:80"),
        ),
        (
            "EVOLINK_ALLOWED_ORIGINS",
            "https://App.example.com/, http://intra:8080",
            ("https://app.example.com", "http://intra:8080"),
        ),
        (
            "EVOLINK_TRUSTED_PROXIES",
            "10.0.0.7, 10.1.0.0/16,fd00::/8",
            ("10.0.0.7/32", "10.1.0.0/16", "fd00::/8"),
        ),
        *(("EVOLINK_LOG_LEVEL", level, level) for level in ("DEBUG", "INFO", "WARNING", "ERROR")),
    ],
)
def test_a_variable_sets_one_thing(variable: str, text: str, value: object) -> None:
    settings = read_with({variable: text})
    field = variable.removeprefix("EVOLINK_").lower()
    assert values_of(settings) == {**DEFAULTS, field: value}


def test_a_folder_is_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    for text, folder in [
        ("pictures", tmp_path / "pictures"),
        ("~/pictures", tmp_path / "home" / "pictures"),
        (str(tmp_path / "a b"), tmp_path / "a b"),
    ]:
        settings = read_with({"EVOLINK_OUTPUT_DIR": text})
        assert settings.output_dir == settings.picture_folder() == folder


def test_pictures_go_to_the_picture_folder_of_the_user() -> None:
    assert read_settings().picture_folder() == user_pictures_path() / "evolink"


def test_the_record_lies_in_the_data_folder_of_the_user() -> None:
    folder = user_data_path("evolink-mcp", appauthor=False)
    assert read_settings().data_folder() == folder
    assert read_with({"EVOLINK_SANDBOX": "1"}).data_folder() == folder / "sandbox"
    for sandbox in ("0", "1"):
        chosen = {"EVOLINK_DATA_DIR": "/chosen", "EVOLINK_SANDBOX": sandbox}
        assert read_with(chosen).data_folder() == Path("/chosen")


@pytest.mark.parametrize("text", UNFILLED, ids=repr)
@pytest.mark.parametrize("field", DEFAULTS)
def test_what_a_host_failed_to_fill_in_counts_as_missing(field: str, text: str) -> None:
    settings = read_with({f"EVOLINK_{field.upper()}": text})
    assert values_of(settings) == DEFAULTS
    assert settings.environment() == {}


@pytest.mark.parametrize("text", NO_KEYS, ids=repr)
def test_a_placeholder_is_no_key(text: str) -> None:
    settings = read_with({"EVOLINK_API_KEY": text})
    assert settings.api_key is None
    assert settings.environment() == {}
    with pytest.raises(KeyMissing) as raised:
        settings.require_key()
    assert raised.value.setting == "EVOLINK_API_KEY"
    assert "EVOLINK_API_KEY" in raised.value.message
    assert "evolink.ai/dashboard/keys" in raised.value.next_step
    assert "EVOLINK_SANDBOX=1" in raised.value.next_step


@given(
    st.sampled_from(["sk-", "sk-evo-"]),
    st.sampled_from(["", "xxx", "XXX", "your", "my", "api", "apikey", "none", "todo", "key"]),
    st.text(ascii_letters + digits, min_size=20, max_size=64),
)
def test_a_real_key_is_never_taken_for_a_placeholder(start: str, word: str, tail: str) -> None:
    assume(set(tail.lower()) != {"x"})
    key = start + word + tail
    assert not is_unfilled(key)
    assert read_with({"EVOLINK_API_KEY": key}).require_key() == key


@pytest.mark.parametrize("value", [None, 7, True, ("gpt-4o-image",), Path("x")])
def test_only_text_can_be_unfilled(value: object) -> None:
    assert not is_unfilled(value)


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("EVOLINK_API_KEY", f"{KEY} {KEY}"),
        ("EVOLINK_API_KEY", f"{KEY}\n{KEY}"),
        ("EVOLINK_API_KEY", f"{KEY}\x07"),
        ("EVOLINK_API_KEY", f"{KEY}ключ"),
        ("EVOLINK_API_KEY", f"{KEY}\u200b"),
        ("EVOLINK_BASE_URL", "api.evolink.ai"),
        ("EVOLINK_BASE_URL", "ftp://api.evolink.ai"),
        ("EVOLINK_BASE_URL", "https://"),
        ("EVOLINK_BASE_URL", "https://api.evolink.ai?key=1"),
        ("EVOLINK_BASE_URL", "https://api.evolink.ai?"),
        ("EVOLINK_BASE_URL", "https://api.evolink.ai#top"),
        ("EVOLINK_BASE_URL", "https://api.evolink.ai /v1"),
        ("EVOLINK_BASE_URL", "https://api.evolink.ai\n/v1"),
        ("EVOLINK_BASE_URL", f"https://me:{KEY}@api.evolink.ai"),
        ("EVOLINK_BASE_URL", "https://@api.evolink.ai"),
        ("EVOLINK_BASE_URL", "https://api.evolink.ai:65536"),
        ("EVOLINK_BASE_URL", "https://[::1"),
        ("EVOLINK_MODELS", ","),
        ("EVOLINK_OUTPUT_DIR", "~nobody-of-that-name/pictures"),
        ("EVOLINK_DATA_DIR", "~nobody-of-that-name/data"),
        ("EVOLINK_FILES_URL", "http://files.example"),
        ("EVOLINK_INPUT_DIRS", "/pictures\nof mine"),
        ("EVOLINK_INPUT_DIRS", "~nobody-of-that-name/pictures"),
        ("EVOLINK_INPUT_DIRS", '["/a"'),
        ("EVOLINK_INPUT_DIRS", '["/a", 7]'),
        ("EVOLINK_CALLBACK_HOSTS", "https://hooks.example.com"),
        ("EVOLINK_CALLBACK_HOSTS", "hooks.example.com:443"),
        ("EVOLINK_CALLBACK_HOSTS", "localhost"),
        ("EVOLINK_CALLBACK_HOSTS", "*"),
        ("EVOLINK_CALLBACK_HOSTS", "hooks.*.com"),
        ("EVOLINK_CALLBACK_HOSTS", "none,hooks.example.com"),
        ("EVOLINK_CALLBACK_HOSTS", ","),
        ("EVOLINK_CONFIRM", "sometimes"),
        ("EVOLINK_CONFIRM", "above"),
        ("EVOLINK_CONFIRM", "above:-1"),
        ("EVOLINK_CONFIRM", "above:inf"),
        ("EVOLINK_DAILY_CREDITS", "-1"),
        ("EVOLINK_DAILY_CREDITS", "inf"),
        ("EVOLINK_DAILY_CREDITS", "nan"),
        ("EVOLINK_DAILY_CREDITS", "many"),
        ("EVOLINK_WAIT_SECONDS", "-1"),
        ("EVOLINK_WAIT_SECONDS", "3601"),
        ("EVOLINK_WAIT_SECONDS", "soon"),
        ("EVOLINK_WAIT_SECONDS", "nan"),
        ("EVOLINK_WAIT_SECONDS", "inf"),
        ("EVOLINK_MAX_WAIT_SECONDS", "-0.1"),
        ("EVOLINK_MAX_WAIT_SECONDS", "86401"),
        ("EVOLINK_PREVIEW", "small"),
        ("EVOLINK_SANDBOX", "2"),
        ("EVOLINK_LOG_LEVEL", "loud"),
        ("EVOLINK_OUTPUT_DIR", "pictures-\udcfc"),
        ("EVOLINK_OUTPUT_DIR", "pictures\nof mine"),
        ("EVOLINK_LOG_LEVEL", "TRACE"),
        ("EVOLINK_LOG_FORMAT", "xml"),
        ("EVOLINK_OAUTH_ISSUER", "http://login.example"),
        ("EVOLINK_OAUTH_ISSUER", "login.example"),
        ("EVOLINK_OAUTH_AUDIENCE", "evolink-mcp"),
        ("EVOLINK_OAUTH_SCOPES", ","),
        ("EVOLINK_ALLOWED_HOSTS", "*"),
        ("EVOLINK_ALLOWED_HOSTS", "https://mcp.example.com"),
        ("EVOLINK_ALLOWED_HOSTS", "mcp.example.com/mcp"),
        ("EVOLINK_ALLOWED_ORIGINS", "*"),
        ("EVOLINK_ALLOWED_ORIGINS", "app.example.com"),
        ("EVOLINK_ALLOWED_ORIGINS", "https://app.example.com/app"),
        ("EVOLINK_TRUSTED_PROXIES", "*"),
        ("EVOLINK_TRUSTED_PROXIES", "proxy.example.com"),
        ("EVOLINK_TRUSTED_PROXIES", "10.0.0.7/8"),
    ],
)
def test_a_wrong_value_names_its_variable_and_never_shows_a_key(variable: str, text: str) -> None:
    with pytest.raises(SettingInvalid) as raised:
        read_with({variable: text})
    error = raised.value
    assert type(error) is SettingInvalid
    assert (error.code, error.setting, error.charged) == ("setting_invalid", variable, "no")
    assert error.message.startswith(f"The setting {variable} does not work: ")
    assert variable in error.next_step
    assert KEY not in repr(error)
    assert error.__cause__ is None
    assert error.__suppress_context__


def test_a_key_is_in_no_text_of_the_settings() -> None:
    settings = read_with({"EVOLINK_API_KEY": KEY})
    for text in (repr(settings), str(settings), f"{settings}", repr(settings.model_dump())):
        assert KEY not in text
    assert KEY not in settings.model_dump_json()
    assert settings.require_key() == KEY


def test_a_key_is_in_no_error_of_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVOLINK_API_KEY", f"{KEY} x")
    with pytest.raises(ValidationError) as raised:
        Settings()
    assert KEY not in str(raised.value)


def test_what_was_set_comes_back_as_the_same_environment(tmp_path: Path) -> None:
    variables = {
        "EVOLINK_API_KEY": KEY,
        "EVOLINK_BASE_URL": "https://gateway.example",
        "EVOLINK_FILES_URL": "https://files.example",
        "EVOLINK_PUBLIC_URL": "https://mcp.example",
        "EVOLINK_MODELS": "gpt-4o-image,z-image-turbo",
        "EVOLINK_DEFAULT_MODEL": "z-image-turbo",
        "EVOLINK_INPUT_DIRS": f"{tmp_path}{os.pathsep}{tmp_path / 'in'}",
        "EVOLINK_CONFIRM": "above:2.5",
        "EVOLINK_CALLBACK_HOSTS": "hooks.example.com,*.example.org",
        "EVOLINK_OUTPUT_DIR": str(tmp_path),
        "EVOLINK_DATA_DIR": str(tmp_path / "data"),
        "EVOLINK_DAILY_CREDITS": "50.0",
        "EVOLINK_WAIT_SECONDS": "12.5",
        "EVOLINK_MAX_WAIT_SECONDS": "90.0",
        "EVOLINK_PREVIEW": "none",
        "EVOLINK_SANDBOX": "1",
        "EVOLINK_LOG_LEVEL": "INFO",
        "EVOLINK_LOG_FORMAT": "json",
        "EVOLINK_TOKENS_FILE": str(tmp_path / "tokens.toml"),
        "EVOLINK_OAUTH_ISSUER": "https://login.example/",
        "EVOLINK_OAUTH_AUDIENCE": "https://mcp.example/mcp",
        "EVOLINK_OAUTH_SCOPES": "images:buy,images:see",
        "EVOLINK_ALLOWED_HOSTS": "mcp.example,intra:8443",
        "EVOLINK_ALLOWED_ORIGINS": "https://app.example,https://other.example",
        "EVOLINK_TRUSTED_PROXIES": "10.0.0.7/32,10.1.0.0/16",
    }
    assert {f"EVOLINK_{name.upper()}" for name in Settings.model_fields} == set(variables)
    settings = read_with(variables)
    assert settings.environment() == variables
    assert read_with(settings.environment()) == settings


@pytest.mark.parametrize("text", ["Pictures", f"/a{os.pathsep}Pictures", '["/a", "Pictures"]'])
def test_a_folder_is_not_opened_by_where_a_server_was_started(text: str) -> None:
    with pytest.raises(SettingInvalid) as raised:
        read_with({"EVOLINK_INPUT_DIRS": text})
    assert "must hold absolute folders, which Pictures is not" in raised.value.message


@given(st.lists(st.text("/a,;: ~\"'[]C\\é", max_size=12).map("/{}".format), max_size=3))
def test_a_server_is_started_with_the_very_folders_that_are_opened(names: list[str]) -> None:
    folders = tuple(map(Path, names))
    environment = Settings(input_dirs=folders).environment()
    assert read_with(environment).input_dirs == folders


def test_folders_are_written_as_in_path_as_long_as_that_can_be_read() -> None:
    for folders, text in [
        (("/a", "/b c"), f"/a{os.pathsep}/b c"),
        (("/a,b", "/c"), '["/a,b", "/c"]'),
        ((f"/c{os.pathsep}d",), f'["/c{os.pathsep}d"]'),
        (("/a ",), '["/a "]'),
    ]:
        settings = Settings(input_dirs=tuple(map(Path, folders)))
        assert settings.environment() == {"EVOLINK_INPUT_DIRS": text}


def test_settings_can_be_aimed_at_a_sandbox() -> None:
    settings = read_with({"EVOLINK_API_KEY": KEY, "EVOLINK_PREVIEW": "full"})
    aimed = settings.aimed_at("http://127.0.0.1:8765", key="sk-sandbox")
    assert aimed.environment() == {
        "EVOLINK_API_KEY": "sk-sandbox",
        "EVOLINK_BASE_URL": "http://127.0.0.1:8765",
        "EVOLINK_PREVIEW": "full",
    }
    assert settings.require_key() == KEY


@pytest.mark.parametrize(
    ("variables", "address"),
    [
        ({}, "https://files-api.evolink.ai"),
        ({"EVOLINK_BASE_URL": "http://127.0.0.1:8765"}, "http://127.0.0.1:8765"),
        ({"EVOLINK_FILES_URL": "https://files.example"}, "https://files.example"),
    ],
)
def test_files_never_go_to_evolink_while_another_is_in_use(
    variables: dict[str, str], address: str
) -> None:
    assert read_with(variables).files_address() == address


def test_files_go_to_the_sandbox_that_settings_are_aimed_at() -> None:
    settings = read_with({"EVOLINK_FILES_URL": "https://files.example"})
    assert settings.aimed_at("http://127.0.0.1:1", key="k").files_address() == "http://127.0.0.1:1"


def test_a_purchase_is_confirmed_from_what_the_operator_has_set() -> None:
    assert [Confirm().needed(1e9), Confirm("always").needed(0)] == [False, True]
    assert [Confirm("above", 10).needed(price) for price in (9, 10, 10.1)] == [False, False, True]


@pytest.mark.parametrize(
    ("hosts", "host", "allowed"),
    [
        ("any", "hooks.example.com", True),
        ("none", "hooks.example.com", False),
        ("hooks.example.com", "Hooks.Example.com.", True),
        ("hooks.example.com", "a.hooks.example.com", False),
        ("hooks.example.com", "evil-hooks.example.com", False),
        ("*.example.com", "a.b.example.com", True),
        ("*.example.com", "example.com", False),
        ("*.example.com", "evilexample.com", False),
        ("*.example.com", "example.com.evil.test", False),
        ("a.example.com,*.example.org", "b.example.org", True),
    ],
)
def test_callbacks_go_to_the_hosts_that_are_named(hosts: str, host: str, *, allowed: bool) -> None:
    assert read_with({"EVOLINK_CALLBACK_HOSTS": hosts}).callback_hosts.allow(host) == allowed


@pytest.mark.parametrize("hosts", ["any", "none", "a.example.com,*.example.org"])
def test_callback_hosts_come_back_as_they_were_set(hosts: str) -> None:
    settings = read_with({"EVOLINK_CALLBACK_HOSTS": hosts})
    assert settings.environment() == {"EVOLINK_CALLBACK_HOSTS": hosts}


def test_every_setting_is_described() -> None:
    for name, field in Settings.model_fields.items():
        assert (field.description or "").endswith("."), name


def test_a_setting_does_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        read_settings().sandbox = True  # type: ignore[misc]


def test_foreign_variables_are_left_alone() -> None:
    assert values_of(read_with({"EVOLINK_NEVER_HEARD_OF": "1", "API_KEY": KEY})) == DEFAULTS


@pytest.mark.parametrize("url", ["http://api.evolink.ai", "http://10.0.0.1:8080", "http://proxy/"])
def test_a_key_does_not_travel_in_clear(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVOLINK_BASE_URL", url)
    with pytest.raises(
        SettingInvalid, match="EVOLINK_BASE_URL does not work: must begin with https"
    ):
        read_settings()


@pytest.mark.parametrize("host", ["localhost:8787", "127.0.0.1", "[::1]:1"])
def test_on_this_machine_it_may(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVOLINK_BASE_URL", f"http://{host}/")
    assert read_settings().base_url == f"http://{host}"
