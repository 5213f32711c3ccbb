"""The settings of `python -m pacs serve`, besides the service's: their variables, defaults and meanings."""

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import SplitResult, urlsplit

from config import SETTINGS as SERVICE_SETTINGS
from config import ConfigError, Setting, decimal, megabytes, read_settings, text, unknown_variables, whole

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_AE_TITLE: Final = re.compile(r"[A-Za-z0-9_.-]{1,16}")


class Sender(NamedTuple):
    """An application entity that may send films: its title, and the network that it must send from."""

    ae_title: str
    network: Network


@dataclass(frozen=True)
class Destination:
    """Where results go: an application entity (`dicom`, `dicoms`) or the root of a DICOMweb service."""

    scheme: str
    host: str
    port: int
    ae_title: str
    url: str
    user: str | None
    password: str | None


@dataclass(frozen=True)
class PacsConfig:
    """The settings of one node."""

    url: str
    api_key: str | None
    ae_title: str
    host: str
    port: int
    senders: tuple[Sender, ...]
    destination: Destination
    quiet_seconds: float
    spool_path: Path
    max_spool_bytes: int
    monitor_host: str
    monitor_port: int
    tls_certificate: Path | None
    tls_key: Path | None
    tls_ca: Path | None


def _ae_title(value: str) -> str:
    if not _AE_TITLE.fullmatch(value):
        raise ValueError("an AE title of 1 to 16 letters, digits, dots, hyphens and underscores")
    return value


def _url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("an address such as http://127.0.0.1:5010")
    return value


def _senders(value: str) -> tuple[Sender, ...]:
    return tuple(_sender(one.strip()) for one in value.split(","))


def _sender(value: str) -> Sender:
    title, _, address = value.partition("@")
    try:
        return Sender(_ae_title(title), ipaddress.ip_network(address))
    except ValueError:
        raise ValueError(
            "AE titles with an address or a network each, such as ROOM1@10.0.0.7,PACS@10.0.1.0/24"
        ) from None


def _destination(value: str) -> Destination:
    parts = urlsplit(value)
    read = {"dicom": _application_entity, "dicoms": _application_entity, "http": _web_root, "https": _web_root}
    try:
        return read[parts.scheme](parts)
    except (KeyError, ValueError):
        wanted = (
            "dicom://TITLE@HOST:PORT, dicoms://TITLE@HOST:PORT, or the http:// or https:// root of a DICOMweb service"
        )
        raise ValueError(wanted) from None


def _application_entity(parts: SplitResult) -> Destination:
    if not parts.hostname or parts.port is None or parts.path or parts.password:
        raise ValueError(parts.scheme)
    return Destination(parts.scheme, parts.hostname, parts.port, _ae_title(parts.username or ""), "", None, None)


def _web_root(parts: SplitResult) -> Destination:
    if not parts.hostname:
        raise ValueError(parts.scheme)
    address = parts.netloc.rpartition("@")[2]
    url = f"{parts.scheme}://{address}{parts.path.rstrip('/')}"
    return Destination(parts.scheme, parts.hostname, parts.port or 0, "", url, parts.username, parts.password)


SETTINGS: Final = (
    Setting("url", "BONE_PACS_URL", "http://127.0.0.1:5010", _url, "the service that is asked"),
    Setting("api_key", "BONE_PACS_API_KEY", None, text, "the key to send to it in `X-API-Key`", is_secret=True),
    Setting("ae_title", "BONE_PACS_AE_TITLE", "BONE", _ae_title, "the node's own AE title; others are refused"),
    Setting("host", "BONE_PACS_HOST", "0.0.0.0", text, "address to listen on"),  # noqa: S104 a node in a container
    Setting("port", "BONE_PACS_PORT", "11112", whole(1, 65535), "port to listen on"),
    Setting(
        "senders",
        "BONE_PACS_SENDERS",
        None,
        _senders,
        "**required**: who may send, comma-separated: AE title, `@`, address or network, such as `ROOM1@10.0.0.7`",
    ),
    Setting(
        "destination",
        "BONE_PACS_DESTINATION",
        None,
        _destination,
        "**required**: where results go: `dicom://TITLE@HOST:PORT` or `dicoms://…` (C-STORE), or the `http://` or"
        " `https://` root of a DICOMweb service (STOW-RS), with `USER:PASSWORD@` if it asks for them",
        is_secret=True,
    ),
    Setting(
        "quiet_seconds",
        "BONE_PACS_QUIET_SECONDS",
        "30",
        decimal(0, 86_400),
        "a study is reported when no film of it has come for so long, in seconds",
    ),
    Setting("spool_path", "BONE_PACS_SPOOL", ".pacs_spool", Path, "folder for films that are accepted, of mode 0700"),
    Setting(
        "max_spool_bytes",
        "BONE_PACS_MAX_SPOOL_MB",
        "10000",
        megabytes(1, 10_000_000),
        "size of the spool, in units of 1,000,000 bytes, beyond which films are refused with 0xA700",
    ),
    Setting("monitor_host", "BONE_PACS_MONITOR_HOST", "127.0.0.1", text, "address of `/health`, `/ready`, `/metrics`"),
    Setting("monitor_port", "BONE_PACS_MONITOR_PORT", "5011", whole(1, 65535), "port of these"),
    Setting(
        "tls_certificate", "BONE_PACS_TLS_CERTIFICATE", None, Path, "certificate chain (PEM); senders then need TLS"
    ),
    Setting("tls_key", "BONE_PACS_TLS_KEY", None, Path, "its private key (PEM)"),
    Setting(
        "tls_ca",
        "BONE_PACS_TLS_CA",
        None,
        Path,
        "certificates (PEM) that senders' certificates must be signed by, and the destination's",
    ),
)


def read_pacs_config(environment: Mapping[str, str]) -> PacsConfig:
    """Read the node's settings from environment variables. Raise ConfigError."""
    config = PacsConfig(**read_settings(SETTINGS, environment))
    for setting in SETTINGS:
        if setting.field in ("senders", "destination") and getattr(config, setting.field) is None:
            meaning = setting.meaning.removeprefix("**required**: ")
            raise ConfigError(f"{setting.variable} is not set; it states {meaning}.")
    if (config.tls_certificate is None) != (config.tls_key is None):
        raise ConfigError("BONE_PACS_TLS_CERTIFICATE and BONE_PACS_TLS_KEY must both be set, or neither.")
    return config


def unknown_pacs_variables(environment: Mapping[str, str]) -> dict[str, str | None]:
    """Return the variables that begin with BONE_ and neither the node nor the service knows."""
    return unknown_variables(environment, (*SERVICE_SETTINGS, *SETTINGS))
