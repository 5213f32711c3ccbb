"""Results -> the PACS: by C-STORE in one association, or by STOW-RS. The same results may be sent again."""

import ssl
from collections.abc import Iterable
from typing import Final, Protocol

import requests
from dicomweb_client.api import DICOMwebClient
from pydicom import Dataset
from pydicom.uid import (
    ComprehensiveSRStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    SecondaryCaptureImageStorage,
)
from pynetdicom import AE
from pynetdicom.association import Association

from pacs.settings import Destination, PacsConfig

TIMEOUT_SECONDS: Final = 30
LEAST_TLS: Final = ssl.TLSVersion.TLSv1_2
REFUSALS: Final = (400, 409, 413, 415, 422)  # of these objects; any other status is about the service


class DestinationUnavailableError(Exception):
    """Nothing can be delivered now; the message says why."""


class DestinationRefusedError(Exception):
    """The destination refuses these results."""


class Sends(Protocol):
    """Something that results are sent to."""

    def send(self, results: Iterable[Dataset]) -> None:
        """Deliver results, in order. Raise DestinationUnavailableError or DestinationRefusedError."""


def open_destination(config: PacsConfig) -> Sends:
    """Return what the settings name. Raise OSError where a certificate is missing."""
    if config.destination.scheme.startswith("dicom"):
        return StoreDestination(config)
    return WebDestination(config)


class StoreDestination:
    """An application entity that takes results by C-STORE."""

    def __init__(self, config: PacsConfig) -> None:
        self._destination: Destination = config.destination
        self._tls = _client_tls(config) if config.destination.scheme == "dicoms" else None
        self._entity = AE(config.ae_title)
        self._entity.connection_timeout = self._entity.acse_timeout = TIMEOUT_SECONDS
        self._entity.dimse_timeout = self._entity.network_timeout = 2 * TIMEOUT_SECONDS
        for sop_class in (ComprehensiveSRStorage, SecondaryCaptureImageStorage):
            self._entity.add_requested_context(sop_class, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])

    def send(self, results: Iterable[Dataset]) -> None:
        """Deliver results over one association."""
        to = self._destination
        tls = (self._tls, to.host) if self._tls else None
        association = self._entity.associate(to.host, to.port, ae_title=to.ae_title, tls_args=tls)
        if association.is_rejected:
            raise DestinationUnavailableError(f"{to.ae_title} rejects the association.")
        if not association.is_established:
            raise DestinationUnavailableError(f"{to.ae_title} at {to.host}:{to.port} cannot be reached.")
        try:
            for result in results:
                _store(association, result, to.ae_title)
        finally:
            association.release()


class WebDestination:
    """A DICOMweb service that takes results by STOW-RS."""

    def __init__(self, config: PacsConfig) -> None:
        to = config.destination
        session = requests.Session()
        if to.user is not None:
            session.auth = (to.user, to.password or "")
        if config.tls_ca:
            session.verify = str(config.tls_ca)
        if config.tls_certificate and config.tls_key:
            session.cert = (str(config.tls_certificate), str(config.tls_key))
        self._client = DICOMwebClient(to.url, session, timeout=2 * TIMEOUT_SECONDS)
        self._client.set_http_retry_params(retry=False)
        self._url = to.url

    def send(self, results: Iterable[Dataset]) -> None:
        """Deliver results, one request each, so that one of them is in memory at a time."""
        for result in results:
            try:
                self._client.store_instances([result])
            except requests.HTTPError as error:
                status = error.response.status_code
                if status in REFUSALS:
                    raise DestinationRefusedError(f"{self._url} answers {status} to a result.") from None
                raise DestinationUnavailableError(f"{self._url} answers {status}.") from None
            except requests.RequestException as error:
                raise DestinationUnavailableError(f"{self._url} is unreachable ({type(error).__name__}).") from None


def _store(association: Association, result: Dataset, title: str) -> None:
    """Send one result; a warning counts as success, as PS3.4 B.2.3 has it."""
    try:
        status = association.send_c_store(result)
    except ValueError:  # no accepted presentation context
        raise DestinationRefusedError(f"{title} does not accept objects of this kind.") from None
    except RuntimeError:
        raise DestinationUnavailableError(f"{title} ended the association.") from None
    if "Status" not in status:
        raise DestinationUnavailableError(f"{title} did not answer in time.")
    code = int(status.Status)
    if code >> 8 == 0xA7:
        raise DestinationUnavailableError(f"{title} is out of resources (0x{code:04X}).")
    if code and code >> 12 != 0xB:
        raise DestinationRefusedError(f"{title} answers 0x{code:04X} to a result.")


def _client_tls(config: PacsConfig) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=config.tls_ca)
    context.minimum_version = LEAST_TLS
    if config.tls_certificate:
        context.load_cert_chain(config.tls_certificate, config.tls_key)
    return context
