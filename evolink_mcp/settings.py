"""Everything an operator can set: environment variables that begin with EVOLINK_."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

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
from evolink_mcp.settings_values import (
    ANY_HOST,
    NEVER,
    CallbackHosts,
    Confirm,
    as_text,
    is_unfilled,
    read_address,
    read_callback_hosts,
    read_confirm,
    read_exact_address,
    read_folded,
    read_folder,
    read_folders,
    read_host_names,
    read_key,
    read_list,
    read_networks,
    read_opened_folder,
    read_origins,
    read_raised,
    read_word,
)

__all__ = [
    "NEVER",
    "CallbackHosts",
    "Confirm",
    "LogFormat",
    "Preview",
    "Settings",
    "is_unfilled",
    "key_missing",
    "read_settings",
]

_PREFIX = "EVOLINK_"

BASE_URL = "https://api.evolink.ai"
FILES_URL = "https://files-api.evolink.ai"
"""EvoLink docs, every page."""

LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR"]

Preview = Literal["preview", "full", "none"]
"""What an answer shows of a picture: a reduced one, the whole one, or nothing."""

LogFormat = Literal["text", "json"]
"""Lines for people, or one JSON object a line."""

_Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(read_list)]
_CallbackHosts = Annotated[CallbackHosts, NoDecode, BeforeValidator(read_callback_hosts)]


class Settings(BaseSettings):
    """What an operator has set; read once at the entry point, then handed down.

    A value that a host failed to fill in (`${...}`, `YOUR_API_KEY`, white space) counts
    as missing.
    """

    model_config = SettingsConfigDict(
        env_prefix=_PREFIX, frozen=True, extra="ignore", hide_input_in_errors=True
    )

    api_key: Annotated[SecretStr | None, AfterValidator(read_key)] = Field(
        default=None, description="The EvoLink key, made at evolink.ai/dashboard/keys."
    )
    base_url: Annotated[str, AfterValidator(read_address)] = Field(
        default=BASE_URL, description="Where EvoLink's API is."
    )
    files_url: Annotated[str, AfterValidator(read_address)] | None = Field(
        default=None,
        description="Where EvoLink's Files API is, for pictures from this machine; "
        "`https://files-api.evolink.ai` if unset, or `EVOLINK_BASE_URL` where that was changed.",
    )
    models: _Names = Field(
        default=("gpt-4o-image",),
        description="Image models to offer: ids, parted by commas, or `all`. An id that the table "
        "does not know is offered with the loosest rules.",
    )
    default_model: Annotated[str | None, BeforeValidator(read_word)] = Field(
        default=None,
        description="The model of a call that names none; the first of `EVOLINK_MODELS` if unset.",
    )
    output_dir: Annotated[Path, AfterValidator(read_folder)] | None = Field(
        default=None,
        description="Folder for the pictures; `evolink` in the user's picture folder if unset.",
    )
    input_dirs: Annotated[
        tuple[Annotated[Path, AfterValidator(read_opened_folder)], ...],
        NoDecode,
        BeforeValidator(read_folders),
    ] = Field(
        default=(),
        description="Absolute folders whose pictures may be used as reference images, parted as in "
        "PATH or by commas, or a JSON list where a name holds such a mark. Such a file is uploaded "
        "to EvoLink and public for 72 hours to whoever has its address. Pictures in the output "
        "folder may always be used.",
    )
    data_dir: Annotated[Path, AfterValidator(read_folder)] | None = Field(
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
    confirm: Annotated[Confirm, NoDecode, BeforeValidator(read_confirm)] = Field(
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
    preview: Annotated[Preview, BeforeValidator(read_folded)] = Field(
        default="preview",
        description="What an answer shows: a reduced picture, the full one, or none.",
    )
    callback_hosts: _CallbackHosts = Field(
        default=ANY_HOST,
        description="Hosts to which a call may have EvoLink send its result (`callback_url`), "
        "parted by commas, `*.example.com` for those below example.com; `none` for none, `any` "
        "for any public one.",
    )
    sandbox: bool = Field(
        default=False,
        description="`1` runs against an EvoLink in a box: no key, no cost, drawn pictures.",
    )
    log_level: Annotated[LogLevel, BeforeValidator(read_raised)] = Field(
        default="WARNING", description="How much is logged to stderr."
    )
    log_format: Annotated[LogFormat, BeforeValidator(read_folded)] = Field(
        default="text",
        description="How it is logged: `text`, or `json` with one object a line.",
    )
    tokens_file: Annotated[Path, AfterValidator(read_folder)] | None = Field(
        default=None,
        description="Over HTTP: TOML file of who may call, written with `evolink-mcp token NAME`; "
        "it is read again when it changes.",
    )
    oauth_issuer: Annotated[str, AfterValidator(read_exact_address)] | None = Field(
        default=None,
        description="Over HTTP: the OAuth issuer whose access tokens (JWT) are accepted, written "
        "exactly as in their `iss`.",
    )
    oauth_audience: Annotated[str, AfterValidator(read_exact_address)] | None = Field(
        default=None,
        description="Over HTTP: the address of this server as clients know it, such as "
        "`https://mcp.example.com/mcp`; a JWT must name it in its `aud`.",
    )
    oauth_scopes: _Names = Field(
        default=(), description="Over HTTP: scopes that a JWT must have, parted by commas."
    )
    public_url: Annotated[str, AfterValidator(read_address)] | None = Field(
        default=None,
        description="Over HTTP: where callers reach this server, such as "
        "`https://mcp.example.com`, for the links to pictures; where it listens if unset. If it is "
        "public and begins with https, EvoLink also tells the end of tasks there.",
    )
    allowed_hosts: Annotated[_Names, AfterValidator(read_host_names)] = Field(
        default=(),
        description="Over HTTP: names under which clients reach this server, such as "
        "`mcp.example.com`, parted by commas. Loopback names always work.",
    )
    allowed_origins: Annotated[_Names, AfterValidator(read_origins)] = Field(
        default=(),
        description="Over HTTP: origins of web pages that may call, such as "
        "`https://app.example.com`, parted by commas. Pages on loopback always may.",
    )
    trusted_proxies: Annotated[_Names, AfterValidator(read_networks)] = Field(
        default=(),
        description="Over HTTP: addresses or networks of proxies, parted by commas, whose "
        "`X-Forwarded-For` and `X-Forwarded-Proto` are believed.",
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
            raise key_missing()
        return self.api_key.get_secret_value()

    def aimed_at(self, base_url: str, *, key: str) -> Settings:
        """Return the same settings for a sandbox."""
        update = {"base_url": base_url, "files_url": None, "api_key": SecretStr(key)}
        return self.model_copy(update=update)

    def environment(self) -> dict[str, str]:
        """Return what was set as environment variables, for a server to be started."""
        values = {name: getattr(self, name) for name in self.model_fields_set}
        return {
            f"{_PREFIX}{name.upper()}": as_text(value)
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


def key_missing() -> KeyMissing:
    """Say that no key is set, and where one comes from."""
    return KeyMissing(
        message="No EvoLink API key is set: EVOLINK_API_KEY is missing, blank or still a "
        "placeholder.",
        next_step="Ask the user to make a key at evolink.ai/dashboard/keys, put it into "
        "EVOLINK_API_KEY in this server's configuration and restart it. To try without a key and "
        "without cost: EVOLINK_SANDBOX=1.",
    )


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
