"""Where the service listens."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

from evolink_mcp.errors import SettingInvalid
from evolink_mcp.guest import listen_at

_LAST_PORT = 65_535


@dataclass(frozen=True, slots=True)
class Address:
    """An address of this machine, and a port; 0 for any free one."""

    host: IPv4Address | IPv6Address
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether only programs of this machine get there."""
        return self.host.is_loopback

    def url(self, port: int) -> str:
        """Return the endpoint's URL on the port that it has got."""
        return f"http://{self.name}:{port}/mcp"

    @property
    def name(self) -> str:
        """The host as it is written in a URL."""
        return f"[{self.host}]" if self.host.version == 6 else str(self.host)  # noqa: PLR2004

    def listen(self) -> socket.socket:
        """Take the port.

        Raises:
            SettingInvalid: It is in use or not allowed.
        """
        try:
            return listen_at(self.host, self.port)
        except OSError as error:
            reason = (error.strerror or type(error).__name__).partition(" (")[0]
            raise _unusable(f"{self.name}:{self.port} cannot be used ({reason}).") from error


def read_address(given: str) -> Address:
    """Read HOST:PORT; the host is an IP address of this machine or `localhost`.

    Raises:
        SettingInvalid: It is something else.
    """
    host, _, port = given.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    try:
        address = Address(ip_address("127.0.0.1" if bare == "localhost" else bare), int(port))
    except ValueError:
        raise _unusable(f"{given!r} is no address to listen on.") from None
    if not 0 <= address.port <= _LAST_PORT:
        raise _unusable(f"{address.port} is no port.")
    return address


def _unusable(message: str) -> SettingInvalid:
    return SettingInvalid(
        setting="--http",
        message=message,
        next_step="Give an IP address of this machine and a port, such as --http 127.0.0.1:8080; "
        "port 0 takes any free one.",
    )
