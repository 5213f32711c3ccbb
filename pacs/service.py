"""Ask for the verdict on decoded pixels, over HTTP or in this process: nothing else of a film gets here."""

import io
import threading
import zlib
from typing import Any, Final, Protocol

import requests
from PIL.Image import Image
from urllib3.exceptions import ProtocolError

import explanation
from config import Config
from model_loader import load
from pacs.answers import Body
from prediction import answer, describe_verdict, inputs_for, judge_outputs
from preprocessing import DecoderFacts, is_blank

TIMEOUT_SECONDS: Final = 60.0
BUSY: Final = (401, 403, 404, 408, 429, 502, 503, 504)  # of the service or of a proxy before it, not of the film
FACTS: Final = DecoderFacts("PNG", 8, inverted=False, rotated=0, mirrored=False, frames=1, original_size=(0, 0))


class ServiceUnavailableError(Exception):
    """No film can be asked about now; the message says why. `retry_after_seconds` is what the service asked for."""

    def __init__(self, message: str, retry_after_seconds: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class ServiceFaultError(Exception):
    """The service failed on this film, or broke off while it had it."""


class Service(Protocol):
    """Something that answers what POST /predict does, with `detail` and, for a known class, `boxes`."""

    def ask(self, image: Image) -> Body:
        """Return the answer to a decoded image, or an object with the `code` of a refusal.

        Raise ServiceUnavailableError or ServiceFaultError.
        """


class LocalService:
    """The network in this process. Raises ModelError."""

    def __init__(self, config: Config) -> None:
        self._classifier = load(config)

    def ask(self, image: Image) -> Body:
        """Return the answer to a decoded image."""
        inputs = None if is_blank(image) else inputs_for(self._classifier, image)
        outputs = None if inputs is None else self._classifier.predict(inputs)
        verdict = judge_outputs(self._classifier, outputs)
        body = answer(verdict, refusal="")
        body["detail"] = describe_verdict(verdict, self._classifier, FACTS)
        if verdict.accepted:
            found = explanation.explain(self._classifier, image, inputs, outputs, verdict.best, lambda: None)
            body["boxes"] = [box._asdict() for box in found.boxes]
        return body


class HttpService:
    """A running service. Explanations are asked for one at a time, as the service computes them."""

    def __init__(self, url: str, api_key: str | None = None) -> None:
        self._url = url.rstrip("/") + "/predict"
        self._local = threading.local()
        self._headers = {"Content-Type": "image/png"} | ({"X-API-Key": api_key} if api_key else {})
        self._explaining = threading.Lock()

    def ask(self, image: Image) -> Body:
        """Return the answer to a decoded image, which travels as a PNG without metadata."""
        data = as_png(image)
        body = self._post(data, explain=False)
        if body.get("success") == 1:
            with self._explaining:
                explained = self._post(data, explain=True)
            body["boxes"] = explained.get("explanation", {}).get("boxes", [])
        return body

    def _post(self, data: bytes, *, explain: bool) -> Body:
        parameters = {"lang": "en", "explain" if explain else "detail": "1"}
        try:
            response = self._session().post(
                self._url, params=parameters, data=data, headers=self._headers, timeout=TIMEOUT_SECONDS
            )
        except requests.RequestException as error:
            if _broke_off(error):
                raise ServiceFaultError(f"{self._url} broke off ({type(error).__name__}).") from None
            raise ServiceUnavailableError(f"{self._url} is unreachable ({type(error).__name__}).") from None
        return _check(response, self._url)

    def _session(self) -> requests.Session:
        """Return a session of this thread."""
        if not hasattr(self._local, "session"):
            self._local.session = requests.Session()
        session: requests.Session = self._local.session
        return session


def as_png(image: Image) -> bytes:
    """Encode pixels, and nothing else, quickly."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1, compress_type=zlib.Z_RLE, exif=b"", icc_profile=None)
    return buffer.getvalue()


def _broke_off(error: requests.RequestException) -> bool:
    """Tell whether the connection stood when it failed, so that the film may be the cause."""
    is_dropped = any(isinstance(cause, ProtocolError) for cause in error.args)
    return isinstance(error, (requests.ReadTimeout, requests.exceptions.ChunkedEncodingError)) or is_dropped


def _check(response: requests.Response, url: str) -> Body:
    """Return the body of an answer or of a refusal of this film; raise for everything else."""
    body = _json(response)
    code = str(body.get("code", ""))
    if response.status_code == 413:  # a proxy may say so without JSON
        return {"code": code or "image_too_large"}
    if not body and response.status_code not in BUSY:
        raise ServiceUnavailableError(f"{url} answers {response.status_code} without a JSON object.")
    if response.status_code in BUSY:
        seconds = response.headers.get("Retry-After", "")
        message = f"{url} answers {response.status_code} {code}."
        raise ServiceUnavailableError(message, float(seconds) if seconds.isdigit() else 0.0)
    if response.status_code >= 500:
        raise ServiceFaultError(f"The service failed on it: {code}, request {body.get('requestId', 'unknown')}.")
    if response.status_code >= 400:
        return {"code": code or "unknown"}
    return body


def _json(response: requests.Response) -> Body:
    """Return the JSON object of a response; an empty one where it is something else."""
    try:
        body: Any = response.json()
    except requests.exceptions.JSONDecodeError:
        return {}
    return body if isinstance(body, dict) else {}
