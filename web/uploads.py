"""A request's body -> the bytes of its images: a multipart form, or the image itself as the body."""

from io import BytesIO
from typing import Final, cast

from flask import Request
from werkzeug import formparser
from werkzeug.datastructures import FileStorage, Headers
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.formparser import FormDataParser
from werkzeug.http import parse_options_header
from werkzeug.sansio.multipart import MultipartDecoder

from web.errors import ApiError

FIELD: Final = "image"
MAX_FORM_PARTS: Final = 8  # besides the images of a batch
MAX_FORM_MEMORY_BYTES: Final = 200_000  # of text fields; Werkzeug counts the piece that it reads too
RAW_TYPES: Final = frozenset(
    """
    image/png image/jpeg image/webp image/tiff image/bmp image/x-ms-bmp application/dicom application/octet-stream
    image/jpg image/pjpeg image/x-png image/tif
    """.split()
)


class _TolerantDecoder(MultipartDecoder):
    """Werkzeug's decoder of multipart forms, for clients that describe a file in their own way.

    File names are ignored, so they may be in any encoding. A part with the type of an image is a file even without one:
    Dart's `MultipartFile.fromBytes` sends that.
    """

    def _parse_headers(self, data: bytes | bytearray) -> Headers:
        headers = super()._parse_headers(data.decode("utf-8", "replace").encode())
        disposition = headers.get("Content-Disposition", "")
        if headers.get("Content-Type", "").partition(";")[0].strip().lower() in RAW_TYPES and (
            "filename" not in parse_options_header(disposition)[1]
        ):
            headers["Content-Disposition"] = f'{disposition}; filename="image"'
        return headers


formparser.MultipartDecoder = _TolerantDecoder  # type: ignore[attr-defined] # the parser makes its decoder itself


class StrictRequest(Request):
    """A request whose uploads stay in memory and whose broken form raises ValueError."""

    def make_form_data_parser(self) -> FormDataParser:
        """Return Werkzeug's parser, told to raise."""
        parser = super().make_form_data_parser()
        parser.silent = False
        return parser

    def _get_file_stream(self, *_: object, **__: object) -> BytesIO:
        return BytesIO()


def one_image(request: Request, max_bytes: int) -> bytes:
    """Return the one image in the form field `image`, or the body if its type is an image's. Raise ApiError."""
    _require_plain_body(request)
    if request.mimetype in RAW_TYPES:
        return checked(request.get_data(cache=False), max_bytes)
    files = _files(request)
    if len(files) > 1:
        raise ApiError("several_images")
    return checked(_content(files[0]), max_bytes)


def several_images(request: Request, max_images: int, max_bytes: int) -> list[bytes]:
    """Return the images in the repeated form field `image`, unchecked, in their order. Raise ApiError."""
    _require_plain_body(request)
    request.max_content_length = max_bytes
    request.max_form_parts = max_images + MAX_FORM_PARTS
    try:
        files = _files(request)
    except RequestEntityTooLarge:
        if (request.content_length or 0) <= max_bytes:
            raise ApiError("request_too_large", **form_limits(request)) from None
        raise ApiError("request_too_large", reason="images_too_large", limit_mb=max_bytes // 100_000 / 10) from None
    if len(files) > max_images:
        raise ApiError("request_too_large", reason="too_many_images", limit=max_images)
    return [_content(file) for file in files]


def form_limits(request: Request) -> dict[str, object]:
    """Return the limits of a form as facts of an error: parts, and kB of text."""
    return {"limit": request.max_form_parts, "limit_kb": (request.max_form_memory_size or 0) / 1000}


def checked(data: bytes, max_bytes: int) -> bytes:
    """Return the bytes of one image, unless they are none or too many. Raise ApiError."""
    if not data:
        raise ApiError("empty_image")
    if len(data) > max_bytes:
        raise ApiError("image_too_large", limit_mb=max_bytes / 1e6)
    return data


def _files(request: Request) -> list[FileStorage]:
    """Return the files of a multipart form: a part without a file name is a field, not a file. Raise ApiError.

    No other form is parsed: Werkzeug would expand a urlencoded one of 20 MB to more than 1 GB.
    """
    if request.mimetype != "multipart/form-data":
        raise ApiError("missing_image")
    try:
        files = [file for file in request.files.getlist(FIELD) if file.filename]
    except ValueError:
        raise ApiError("malformed_request") from None
    if not files:
        raise _missing(request)
    return files


def _missing(request: Request) -> ApiError:
    """Return the error of a form without a file in `image`, with a reason where the form shows one."""
    if request.form.get(FIELD):
        return ApiError("missing_image", reason="image_as_text")
    if any(file.filename for name, file in request.files.items(multi=True) if name != FIELD):
        return ApiError("missing_image", reason="image_in_other_field")
    return ApiError("missing_image")


def _require_plain_body(request: Request) -> None:
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise ApiError("unsupported_image", reason="content_encoding")


def _content(file: FileStorage) -> bytes:
    """Return the bytes of a file, shared with its BytesIO; `read` would copy them."""
    return cast("BytesIO", file.stream).getvalue()
