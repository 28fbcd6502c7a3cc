"""How the values of settings are read and written: what people and hosts put into variables."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from typing import Literal, cast
from urllib.parse import urlsplit

from pydantic import SecretStr, TypeAdapter, ValidationError

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

_HOST = re.compile(r"(?:[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_])?|\[[0-9a-f:.]+\])(?::\d{1,5})?")
"""A name or an address, with a port or without."""

_CALLBACK_HOST = re.compile(r"(?:\*\.)?(?:[a-z0-9_-]+\.)+[a-z0-9_-]+")
"""A public name, or those below it."""

_BEARER = re.compile(r"bearer(?:\s+|$)", re.IGNORECASE)

_COMMA = re.compile(r"""(?:,\s*)+(?=["']?(?:[/~]|[A-Za-z]:)|$)""")
"""A comma that parts folders: another one begins after it, or nothing. Names hold commas, too."""

_FOLDERS = TypeAdapter(list[str])

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


@dataclass(frozen=True, slots=True)
class CallbackHosts:
    """To which hosts a caller may have EvoLink send callbacks."""

    names: tuple[str, ...] | None = None
    """`*.example.com` stands for what is below example.com; None for any host."""

    def allow(self, host: str) -> bool:
        """Tell whether a host's name is among them."""
        name = host.lower().rstrip(".")
        return self.names is None or any(
            name.endswith(each[1:]) if each.startswith("*") else name == each for each in self.names
        )

    def __str__(self) -> str:
        """Write them as they are set."""
        return "any" if self.names is None else ",".join(self.names) or "none"


ANY_HOST = CallbackHosts()


def is_unfilled(value: object) -> bool:
    """Tell whether a variable holds white space or what a host failed to fill in."""
    if not isinstance(value, str):
        return False
    word = _bare(value)
    return not word or _UNFILLED.fullmatch(word) is not None


def _bare(value: str) -> str:
    return value.strip().strip("\"'").strip()


def read_key(value: SecretStr | None) -> SecretStr | None:
    """Read a key: one ASCII word; a pasted `Bearer ` in front of it is dropped."""
    given = _bare(value.get_secret_value() if value else "")
    word = _BEARER.sub("", given)
    if is_unfilled(word) or _SAMPLE_KEYS.fullmatch(word):
        return None
    if not word.isascii() or not word.isprintable() or " " in word:
        msg = "must be one word of plain ASCII characters, as EvoLink shows it"
        raise ValueError(msg)
    return SecretStr(word)


def read_address(given: str) -> str:
    """Read an address that others are appended to; `https` everywhere but on this machine."""
    return read_exact_address(given).rstrip("/")


def read_exact_address(given: str) -> str:
    """Read an address whose every character counts, such as that of an OAuth issuer."""
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
    return value


def read_confirm(value: object) -> object:
    """Read when the user is asked."""
    if not isinstance(value, str):
        return value
    word = _bare(value).lower()
    if word in {"never", "always"}:
        return Confirm(cast("Literal['never', 'always']", word))
    if found := _ABOVE.fullmatch(word):
        return Confirm("above", float(found[1]))
    msg = "must be never, always or above:N with N in credits, such as above:10"
    raise ValueError(msg)


def read_callback_hosts(value: object) -> object:
    """Read to which hosts callers may have callbacks sent."""
    if not isinstance(value, str):
        return value
    given = _bare(value).lower()
    if given in {"any", "none"}:
        return CallbackHosts(None if given == "any" else ())
    names = tuple(word.strip() for word in given.split(",") if word.strip())
    if not names or not all(map(_CALLBACK_HOST.fullmatch, names)):
        msg = "must be none, any, or host names such as hooks.example.com or *.example.com"
        raise ValueError(msg)
    return CallbackHosts(names)


def read_folders(value: object) -> object:
    """Read folders that are parted as in PATH or by commas, or a JSON list, word for word."""
    if not isinstance(value, str):
        return value
    given = _bare(value)
    if given.startswith("["):
        return _read_json_folders(given)
    words = (word for part in given.split(os.pathsep) for word in _COMMA.split(part))
    return [_bare(word) for word in words if _bare(word)]


def _read_json_folders(given: str) -> list[str]:
    try:
        return _FOLDERS.validate_json(given)
    except ValidationError:
        msg = 'begins with [ and is no JSON list of folders, such as ["/a,b", "/c"]'
        raise ValueError(msg) from None


def read_opened_folder(given: Path) -> Path:
    """Read a folder that is opened: where a server is started decides nothing about it."""
    value = _resolved(given)
    if not value.is_absolute():
        msg = f"must hold absolute folders, which {value} is not"
        raise ValueError(msg)
    return value


def read_list(value: object) -> object:
    """Read words that are parted by commas."""
    if not isinstance(value, str):
        return value
    words = [word.strip() for word in value.split(",") if word.strip()]
    if not words:
        msg = "names nothing"
        raise ValueError(msg)
    return words


def read_folder(given: Path) -> Path:
    """Read a path, absolute and with `~` resolved."""
    return _resolved(Path(_bare(str(given)))).absolute()


def _resolved(value: Path) -> Path:
    if not str(value).isprintable():
        msg = "names a folder that cannot be written as text"
        raise ValueError(msg)
    try:
        return value.expanduser()
    except RuntimeError:
        msg = "names the home folder of a user who does not exist"
        raise ValueError(msg) from None


def read_word(value: object) -> object:
    """Drop white space and quotes around a word."""
    return _bare(value) if isinstance(value, str) else value


def read_folded(value: object) -> object:
    """Read a word that is written small."""
    return _bare(value).lower() if isinstance(value, str) else value


def read_raised(value: object) -> object:
    """Read a word that is written in capitals."""
    return _bare(value).upper() if isinstance(value, str) else value


def read_host_names(given: tuple[str, ...]) -> tuple[str, ...]:
    """Read names of this server, each with a port or without."""
    names = tuple(word.lower() for word in given)
    if not all(map(_HOST.fullmatch, names)):
        msg = "must hold host names such as mcp.example.com, without https:// and without a path"
        raise ValueError(msg)
    return names


def read_origins(given: tuple[str, ...]) -> tuple[str, ...]:
    """Read origins of web pages."""
    origins = tuple(word.lower().rstrip("/") for word in given)
    parts = [origin.partition("://") for origin in origins]
    if not all(scheme in {"http", "https"} and _HOST.fullmatch(host) for scheme, _, host in parts):
        msg = "must hold origins such as https://app.example.com, without a path"
        raise ValueError(msg)
    return origins


def read_networks(given: tuple[str, ...]) -> tuple[str, ...]:
    """Read addresses of machines and networks."""
    try:
        return tuple(str(ip_network(word)) for word in given)
    except ValueError:
        msg = "must hold addresses or networks such as 10.0.0.7 or 10.0.0.0/24"
        raise ValueError(msg) from None


def as_text(value: object) -> str:
    """Write a value as the variable it came from."""
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, tuple):
        parts = cast("tuple[object, ...]", value)
        words = list(map(str, parts))
        return (
            _folders_as_text(words)
            if any(isinstance(part, Path) for part in parts)
            else ",".join(words)
        )
    return str(int(value)) if isinstance(value, bool) else str(value)


def _folders_as_text(folders: list[str]) -> str:
    """Write folders as in PATH, or as JSON where a name would not come back as it is."""
    if all(read_folders(folder) == [folder] and "," not in folder for folder in folders):
        return os.pathsep.join(folders)
    return json.dumps(folders)
