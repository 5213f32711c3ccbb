"""A request's body -> the bytes of its images: a multipart form, or the image itself as the body."""

from io import BytesIO
from typing import IO, Any, Final, cast

from flask import Request
from werkzeug.datastructures import FileStorage
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.formparser import FormDataParser, MultiPartParser

from web.errors import ApiError

FIELD: Final = "image"
MAX_FORM_PARTS: Final = 8  # besides the images of a batch
MAX_FORM_MEMORY_BYTES: Final = 200_000  # of text fields; Werkzeug counts the piece that it reads too
PIECE_BYTES: Final = 150_000  # less than what a form's text fields may have, for Werkzeug holds a piece to that too
TAIL_BYTES: Final = 1_000  # of a body: more than its last boundary takes
RAW_TYPES: Final = frozenset(
    """
    image/png image/jpeg image/webp image/tiff image/bmp image/x-ms-bmp application/dicom application/octet-stream
    """.split()
)


class _TailApart:
    """A body whose last bytes are read by themselves."""

    def __init__(self, stream: IO[bytes], length: int) -> None:
        self._stream = stream
        self._before_tail = length - TAIL_BYTES

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(min(size, self._before_tail) if self._before_tail > 0 else size)
        self._before_tail -= len(data)
        return data


class _FormParser(FormDataParser):
    """Werkzeug's parser for multipart forms alone, in larger pieces and with a short last one; what is broken raises.

    Its regular expression takes 0.5 ms for a last piece of 64 KiB. A urlencoded form, which holds no files, it would
    unfold without a limit: 20 MB to more than 1 GB.
    """

    def parse(self, stream: IO[bytes], mimetype: str, content_length: int | None, options: Any = None) -> Any:
        """Parse a multipart form; of any other body read nothing. Raise ValueError."""
        if mimetype != "multipart/form-data":
            return stream, self.cls(), self.cls()
        boundary = (options or {}).get("boundary", "").encode("ascii")
        if not boundary:
            raise ValueError("a multipart form without a boundary")
        parser = MultiPartParser(
            self.stream_factory,
            max_form_memory_size=self.max_form_memory_size,
            max_form_parts=self.max_form_parts,
            cls=self.cls,
            buffer_size=PIECE_BYTES,
        )
        tail_apart = cast("IO[bytes]", _TailApart(stream, content_length or 0))
        return stream, *parser.parse(tail_apart, boundary, content_length)


class StrictRequest(Request):
    """A request whose uploads stay in memory."""

    form_data_parser_class = _FormParser

    def _get_file_stream(self, *_: object, **__: object) -> BytesIO:
        return BytesIO()


def one_image(request: Request, max_bytes: int) -> bytes:
    """Return the one image in the form field `image`, or the body where its type is an image's. Raise ApiError."""
    if request.mimetype in RAW_TYPES:
        return checked(request.get_data(cache=False), max_bytes)
    files = _files(request)
    if len(files) > 1:
        raise ApiError("several_images")
    return checked(_content(files[0]), max_bytes)


def several_images(request: Request, max_images: int, max_bytes: int) -> list[bytes]:
    """Return the images in the repeated form field `image`, unchecked, in their order. Raise ApiError."""
    request.max_content_length = max_bytes
    request.max_form_parts = max_images + MAX_FORM_PARTS
    try:
        files = _files(request)
    except RequestEntityTooLarge:
        raise ApiError("request_too_large") from None
    if len(files) > max_images:
        raise ApiError("request_too_large")
    return [_content(file) for file in files]


def checked(data: bytes, max_bytes: int) -> bytes:
    """Return the bytes of one image, which must be neither none nor too many. Raise ApiError."""
    if not data:
        raise ApiError("empty_image")
    if len(data) > max_bytes:
        raise ApiError("image_too_large", limit_mb=max_bytes / 1e6)
    return data


def _files(request: Request) -> list[FileStorage]:
    """Return the files that were chosen: a part without a file name is a field, not a file."""
    try:
        files = [file for file in request.files.getlist(FIELD) if file.filename]
    except ValueError:
        raise ApiError("malformed_request") from None
    if not files:
        raise ApiError("missing_image")
    return files


def _content(file: FileStorage) -> bytes:
    """Return the bytes of a file, shared with its BytesIO, of which `read` would make a copy."""
    return cast("BytesIO", file.stream).getvalue()
