"""Everything an operator can set: environment variables that begin with EVOLINK_."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, cast
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from evolink_mcp.errors import KeyMissing, SettingInvalid

_PREFIX = "EVOLINK_"

BASE_URL = "https://api.evolink.ai"
FILES_URL = "https://files-api.evolink.ai"
"""EvoLink docs, every page."""

_UNFILLED = re.compile(r"\$\{.*\}|\$\w+|%\w+%|<.*>|\{\{.*\}\}|__encrypted__:.*")
"""What hosts leave where they failed to fill a value in (seen in reports of users)."""

_SAMPLE_KEYS = re.compile(
    r"(?:sk-|evo-)*(?:(?:your|my|the|insert|replace|change|enter|paste)[-_ ].*"
    r"|[x.…*_-]*)"
    r"|.*[-_ ]key[-_ ]here|(?:evolink[-_ ])?api[-_ ]?key|changeme|none|null|undefined|todo",
    re.IGNORECASE,
)
"""What people leave where a key should be. A word must end where a key would go on:
a real key may begin with any letters."""

_THIS_MACHINE = frozenset({"localhost", "127.0.0.1", "::1"})

_BEARER = re.compile(r"bearer(?:\s+|$)", re.IGNORECASE)

LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR"]

Preview = Literal["preview", "full", "none"]
"""What an answer shows of a picture: a reduced one, the whole one, or nothing."""

_ABOVE = re.compile(r"above:\s*(\d{1,9}(?:\.\d{1,6})?)")


@dataclass(frozen=True, slots=True)
class Confirm:
    """When the user is asked before credits are spent."""

    mode: Literal["never", "always", "above"] = "never"
    above: float = 0.0
    """Credits; a purchase that costs more is asked about."""

    def needed(self, credits: float) -> bool:  # noqa: A002 - EvoLink's own word
        """Tell whether a purchase of so many credits has to be confirmed."""
        return self.mode == "always" or (self.mode == "above" and credits > self.above)

    def __str__(self) -> str:
        """Write it as it is set."""
        return f"above:{self.above:g}" if self.mode == "above" else self.mode


NEVER = Confirm()


def is_unfilled(value: object) -> bool:
    """Tell whether a variable holds white space or what a host failed to fill in."""
    if not isinstance(value, str):
        return False
    word = _bare(value)
    return not word or _UNFILLED.fullmatch(word) is not None


def _bare(value: str) -> str:
    return value.strip().strip("\"'").strip()


def _key(value: SecretStr | None) -> SecretStr | None:
    """Read a key: one ASCII word; a pasted `Bearer ` in front of it is dropped."""
    given = _bare(value.get_secret_value() if value else "")
    word = _BEARER.sub("", given)
    if is_unfilled(word) or _SAMPLE_KEYS.fullmatch(word):
        return None
    if not word.isascii() or not word.isprintable() or " " in word:
        msg = "must be one word of plain ASCII characters, as EvoLink shows it"
        raise ValueError(msg)
    return SecretStr(word)


def _base_url(given: str) -> str:
    value = _bare(given)
    parts = urlsplit(value)
    parts.port  # noqa: B018 - reading it checks it
    if parts.scheme not in {"http", "https"} or not parts.hostname or re.search(r"[?#\s]", value):
        msg = "must be an address such as https://api.evolink.ai"
        raise ValueError(msg)
    if parts.scheme == "http" and parts.hostname not in _THIS_MACHINE:
        msg = "must begin with https://, or the key would travel in clear"
        raise ValueError(msg)
    if "@" in parts.netloc:
        msg = "must not hold a user name or password"
        raise ValueError(msg)
    return value.rstrip("/")


def _confirm(value: object) -> object:
    if not isinstance(value, str):
        return value
    word = _bare(value).lower()
    if word in {"never", "always"}:
        return Confirm(cast("Literal['never', 'always']", word))
    if found := _ABOVE.fullmatch(word):
        return Confirm("above", float(found[1]))
    msg = "must be never, always or above:N with N in credits, such as above:10"
    raise ValueError(msg)


def _folders(value: object) -> object:
    """Read folders that are parted as in PATH, or by commas."""
    if not isinstance(value, str):
        return value
    return [word for part in value.split(os.pathsep) for word in part.split(",") if _bare(word)]


def _listed(value: object) -> object:
    if not isinstance(value, str):
        return value
    words = [word.strip() for word in value.split(",") if word.strip()]
    if not words:
        msg = "names nothing"
        raise ValueError(msg)
    return words


def _folder(given: Path) -> Path:
    value = Path(_bare(str(given)))
    if not str(value).isprintable():
        msg = "names a folder that cannot be written as text"
        raise ValueError(msg)
    try:
        return value.expanduser().absolute()
    except RuntimeError:
        msg = "names the home folder of a user who does not exist"
        raise ValueError(msg) from None


def _word(value: object) -> object:
    return _bare(value) if isinstance(value, str) else value


def _folded(value: object) -> object:
    return _bare(value).lower() if isinstance(value, str) else value


def _raised(value: object) -> object:
    return _bare(value).upper() if isinstance(value, str) else value


def _as_text(value: object) -> str:
    """Write a value as the variable it came from."""
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, tuple):
        words = tuple(map(str, cast("tuple[object, ...]", value)))
        parted_by = os.pathsep if any(os.sep in word for word in words) else ","
        return parted_by.join(words)
    return str(int(value)) if isinstance(value, bool) else str(value)


class Settings(BaseSettings):
    """What an operator has set; read once at the entry point, then handed down.

    A value that a host failed to fill in (`${...}`, `YOUR_API_KEY`, white space) counts
    as missing.
    """

    model_config = SettingsConfigDict(
        env_prefix=_PREFIX, frozen=True, extra="ignore", hide_input_in_errors=True
    )

    api_key: Annotated[SecretStr | None, AfterValidator(_key)] = Field(
        default=None, description="The EvoLink key, made at evolink.ai/dashboard/keys."
    )
    base_url: Annotated[str, AfterValidator(_base_url)] = Field(
        default=BASE_URL, description="Where EvoLink's API is."
    )
    files_url: Annotated[str, AfterValidator(_base_url)] | None = Field(
        default=None,
        description="Where EvoLink's Files API is, for pictures from this machine; "
        "`https://files-api.evolink.ai` if unset, or `EVOLINK_BASE_URL` where that was changed.",
    )
    models: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_listed)] = Field(
        default=("gpt-4o-image",),
        description="Image models to offer: ids, parted by commas, or `all`. An id that the table "
        "does not know is offered with the loosest rules.",
    )
    default_model: Annotated[str | None, BeforeValidator(_word)] = Field(
        default=None,
        description="The model of a call that names none; the first of `EVOLINK_MODELS` if unset.",
    )
    output_dir: Annotated[Path, AfterValidator(_folder)] | None = Field(
        default=None,
        description="Folder for the pictures; `evolink` in the user's picture folder if unset.",
    )
    input_dirs: Annotated[
        tuple[Annotated[Path, AfterValidator(_folder)], ...], NoDecode, BeforeValidator(_folders)
    ] = Field(
        default=(),
        description="Folders whose pictures may be used as reference images, parted as in PATH or "
        "by commas. Such a file is uploaded to EvoLink and public for 72 hours to whoever has its "
        "address. Pictures in the output folder may always be used.",
    )
    data_dir: Annotated[Path, AfterValidator(_folder)] | None = Field(
        default=None,
        description="Folder for the record of what was bought; `evolink-mcp` in the user's data "
        "folder if unset.",
    )
    daily_credits: float | None = Field(
        default=None,
        ge=0,
        allow_inf_nan=False,
        description="Credits that may be spent on one day, a hard cap over all servers that share "
        "the data folder; no cap if unset.",
    )
    confirm: Annotated[Confirm, NoDecode, BeforeValidator(_confirm)] = Field(
        default=NEVER,
        description="When the user is asked before credits are spent: `never`, `always`, or "
        "`above:N` for purchases of more than N credits.",
    )
    wait_seconds: float = Field(
        default=45.0,
        ge=0,
        le=3600,
        description="Longest wait of a call, in seconds, for a host that is not known "
        "and asks for no progress.",
    )
    max_wait_seconds: float = Field(
        default=600.0, ge=0, le=86_400, description="Longest wait of any call, in seconds."
    )
    preview: Annotated[Preview, BeforeValidator(_folded)] = Field(
        default="preview",
        description="What an answer shows: a reduced picture, the full one, or none.",
    )
    sandbox: bool = Field(
        default=False,
        description="`1` runs against an EvoLink in a box: no key, no cost, drawn pictures.",
    )
    log_level: Annotated[LogLevel, BeforeValidator(_raised)] = Field(
        default="WARNING", description="How much is logged to stderr."
    )

    @model_validator(mode="before")
    @classmethod
    def _drop_unfilled(cls, values: dict[str, object]) -> dict[str, object]:
        return {name: value for name, value in values.items() if not is_unfilled(value)}

    def require_key(self) -> str:
        """Return the API key.

        Raises:
            KeyMissing: There is none.
        """
        if self.api_key is None:
            raise KeyMissing(
                message="No EvoLink API key is set: EVOLINK_API_KEY is missing, blank or still "
                "a placeholder.",
                next_step="Ask the user to make a key at evolink.ai/dashboard/keys, put it into "
                "EVOLINK_API_KEY in this server's configuration and restart it. To try "
                "without a key and without cost: EVOLINK_SANDBOX=1.",
            )
        return self.api_key.get_secret_value()

    def aimed_at(self, base_url: str, *, key: str) -> Settings:
        """Return the same settings for a sandbox."""
        update = {"base_url": base_url, "files_url": None, "api_key": SecretStr(key)}
        return self.model_copy(update=update)

    def environment(self) -> dict[str, str]:
        """Return what was set as environment variables, for a server to be started."""
        values = {name: getattr(self, name) for name in self.model_fields_set}
        return {
            f"{_PREFIX}{name.upper()}": _as_text(value)
            for name, value in values.items()
            if value is not None
        }

    def files_address(self) -> str:
        """Return where files are uploaded to: never to EvoLink while a sandbox is in use."""
        if self.files_url is not None:
            return self.files_url
        return FILES_URL if self.base_url == BASE_URL else self.base_url

    def picture_folder(self) -> Path:
        """Return the folder for pictures, not yet made."""
        if self.output_dir is not None:
            return self.output_dir
        from platformdirs import user_pictures_path  # noqa: PLC0415 - off the way to the first answer

        return user_pictures_path() / "evolink"

    def data_folder(self) -> Path:
        """Return the folder for the record of jobs, not yet made; a sandbox has its own."""
        if self.data_dir is not None:
            return self.data_dir
        from platformdirs import user_data_path  # noqa: PLC0415 - off the way to the first answer

        folder = user_data_path("evolink-mcp", appauthor=False)
        return folder / "sandbox" if self.sandbox else folder


def read_settings() -> Settings:
    """Read the environment.

    Raises:
        SettingInvalid: A variable does not hold what it should.
    """
    try:
        return Settings()
    except ValidationError as error:
        raise _setting_invalid(error) from None


def _setting_invalid(error: ValidationError) -> SettingInvalid:
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    name = f"{_PREFIX}{first['loc'][0]}".upper()
    reason = first["msg"].removeprefix("Value error, ")
    return SettingInvalid(
        setting=name,
        message=f"The setting {name} does not work: {reason}.",
        next_step=f"Correct or remove {name} in this server's configuration and restart it.",
    )
