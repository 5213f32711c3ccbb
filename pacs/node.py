"""The DICOM node: C-ECHO and C-STORE for those who may, into the spool."""

import ipaddress
import logging
import socket
import ssl
import threading
import time
from typing import Any, Final

from pydicom import Dataset
from pydicom.uid import (
    JPEG2000,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)
from pynetdicom import AE, evt
from pynetdicom.transport import ThreadedAssociationServer

from config import LOGGER, ConfigError
from pacs.destination import LEAST_TLS
from pacs.films import SOP_CLASSES, Film, FilmError, read_film
from pacs.metrics import Metrics
from pacs.settings import PacsConfig
from pacs.spool import Spool, SpoolFullError

SYNTAXES: Final = (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
    RLELossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    JPEG2000Lossless,
    JPEG2000,
)
VERIFICATION: Final = "1.2.840.10008.1.1"
MAX_ASSOCIATIONS: Final = 20
MAX_FILM_BYTES: Final = 512_000_000
MAX_PDU_BYTES: Final = 1 << 20
HANDSHAKE_SECONDS: Final = 10
IDLE_SECONDS: Final = 60
REJECTED: Final = (0x01, 0x01, 0x03)  # permanently, by the service's user: the calling AE title is not recognised

SUCCESS: Final = 0x0000
DUPLICATE: Final = 0x0111
OUT_OF_RESOURCES: Final = 0xA700
MISMATCH: Final = 0xA900
CANNOT_UNDERSTAND: Final = 0xC000

logger = logging.getLogger(LOGGER)


class Node:
    """An application entity that listens until `stop`."""

    def __init__(self, config: PacsConfig, spool: Spool, metrics: Metrics) -> None:
        """Bind the port and answer. Raise ConfigError where it is unavailable, OSError where a certificate is."""
        self._config, self._spool, self._metrics = config, spool, metrics
        self._entity = AE(config.ae_title)
        self._entity.require_called_aet = True
        self._entity.maximum_associations = MAX_ASSOCIATIONS
        self._entity.maximum_pdu_size = MAX_PDU_BYTES
        self._entity.network_timeout = self._entity.dimse_timeout = self._entity.acse_timeout = IDLE_SECONDS
        self._entity.add_supported_context(VERIFICATION)
        for sop_class in SOP_CLASSES:
            self._entity.add_supported_context(sop_class, list(SYNTAXES))
        handlers: list[Any] = [
            (evt.EVT_REQUESTED, self._admit),
            (evt.EVT_DATA_RECV, self._limit),
            (evt.EVT_C_STORE, self._store),
        ]
        try:
            self._server: Any = self._entity.make_server(
                (config.host, config.port),
                evt_handlers=handlers,
                ssl_context=server_tls(config),
                server_class=_Server,
            )
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ConfigError(f"Cannot listen on {config.host} port {config.port}: {reason}.") from None
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()

    def stop(self, drain_seconds: float) -> None:
        """Take no new association, wait for those that are open, then abort what is left of them."""
        self._server.stop()
        deadline = time.monotonic() + drain_seconds
        while self._server.active_associations and time.monotonic() < deadline:
            time.sleep(0.05)
        for association in self._server.active_associations:
            association.abort()

    def _admit(self, event: Any) -> None:
        """Reject an association of one who may not send."""
        requestor = event.assoc.requestor
        title, address = str(requestor.primitive.calling_ae_title).strip(), ipaddress.ip_address(requestor.address)
        mapped = getattr(address, "ipv4_mapped", None) or address
        if not any(sender.ae_title == title and mapped in sender.network for sender in self._config.senders):
            logger.warning("Rejected an association from %s: not one of BONE_PACS_SENDERS.", mapped)
            self._metrics.count_film("rejected")
            event.assoc.acse.send_reject(*REJECTED)
            event.assoc.is_rejected = True
            time.sleep(0.1)  # the rejection must leave before the connection is closed
            event.assoc.kill()

    def _limit(self, event: Any) -> None:
        """Abort an association that sends a film of no end."""
        received = getattr(event.assoc, "bytes_of_film", 0) + len(event.data)
        event.assoc.bytes_of_film = received
        if received > MAX_FILM_BYTES:
            logger.warning("Aborted an association: a film of more than %d bytes.", MAX_FILM_BYTES)
            event.assoc.abort()

    def _store(self, event: Any) -> Dataset:
        """Answer a C-STORE: success only for what is on the disk."""
        event.assoc.bytes_of_film = 0
        try:
            outcome, status, comment = self._keep(event), SUCCESS, ""
        except _NotKeptError as error:
            outcome, status, comment = error.outcome, error.status, str(error)
            logger.info("A film from %s: %s", event.assoc.requestor.ae_title, comment)
        except Exception:
            logger.exception("A film could not be received")
            outcome, status, comment = "failed", OUT_OF_RESOURCES, "The node failed; see its log"
        self._metrics.count_film(outcome)
        return _status(status, comment)

    def _keep(self, event: Any) -> str:
        """Put a film into the spool and return `accepted`, or `known` if it came before. Raise _NotKeptError."""
        if self._spool.is_full():
            raise _NotKeptError("full", OUT_OF_RESOURCES, "The spool is full; try again later")
        data = event.encoded_dataset()
        film = self._read(event, data)
        try:
            outcome = self._spool.accept(film, data)
        except SpoolFullError:
            raise _NotKeptError("full", OUT_OF_RESOURCES, "The spool is full; try again later") from None
        except OSError as error:
            raise _NotKeptError("full", OUT_OF_RESOURCES, f"The spool cannot be written: {error.strerror}") from None
        if outcome == "differs":
            raise _NotKeptError("duplicate", DUPLICATE, "Another film with this SOP Instance UID came before")
        for note in film.notes:
            logger.info("A film from %s: %s", event.assoc.requestor.ae_title, note)
        return outcome

    def _read(self, event: Any, data: bytes) -> Film:
        """Return the checked header of a film that may be kept. Raise _NotKeptError."""
        try:
            film = read_film(data)
        except FilmError as error:
            raise _NotKeptError("refused", CANNOT_UNDERSTAND, str(error)) from None
        stated = (film.header.SOPClassUID, film.uid)
        if stated != (event.request.AffectedSOPClassUID, event.request.AffectedSOPInstanceUID):
            raise _NotKeptError("refused", MISMATCH, "The film's UIDs are not those of the request")
        if film.is_own_result:
            raise _NotKeptError("own", SUCCESS, "It is a result of this software; it was not kept")
        return film


class _NotKeptError(Exception):
    """A film that is not kept: what to count, the status to answer, and a sentence."""

    def __init__(self, outcome: str, status: int, comment: str) -> None:
        super().__init__(comment)
        self.outcome, self.status = outcome, status


class _Server(ThreadedAssociationServer):
    """pynetdicom's server, with the TLS handshake in the connection's own thread: a silent client blocks no other."""

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept a connection."""
        listener: Any = self.socket
        client, address = listener.accept()
        return client, address

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Shake hands if there is TLS, then handle the association."""
        if self.ssl_context:
            request.settimeout(HANDSHAKE_SECONDS)
            request = self.ssl_context.wrap_socket(request, server_side=True)
            request.settimeout(None)
        super().finish_request(request, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 socketserver's signature
        """Log a connection that failed, in one line."""
        logger.warning("A connection from %s failed.", client_address[0], exc_info=logger.isEnabledFor(logging.DEBUG))

    def stop(self) -> None:
        """Stop listening; associations go on."""
        super(ThreadedAssociationServer, self).shutdown()
        self.server_close()


def server_tls(config: PacsConfig) -> ssl.SSLContext | None:
    """Return the context that senders' connections are wrapped with; None without a certificate. Raise ConfigError."""
    if config.tls_certificate is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = LEAST_TLS
    try:
        context.load_cert_chain(config.tls_certificate, config.tls_key)
        if config.tls_ca:
            context.load_verify_locations(config.tls_ca)
            context.verify_mode = ssl.CERT_REQUIRED
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"The certificates of BONE_PACS_TLS_* cannot be used: {error}.") from None
    return context


def _status(code: int, comment: str) -> Dataset:
    status = Dataset()
    status.Status = code
    if comment and code != SUCCESS:
        status.ErrorComment = comment[:64]  # the length of an LO
    return status
