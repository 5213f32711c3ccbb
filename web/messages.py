"""Every sentence that a client reads, in Spanish and English; and the status of each error code."""

from collections.abc import Mapping, Sequence
from typing import Final, Literal, NamedTuple

Language = Literal["es", "en"]


class ErrorMessage(NamedTuple):
    """The HTTP status of an error code and its sentence in both languages, with {facts} to fill in."""

    status: int
    es: str
    en: str


ERRORS: Final[Mapping[str, ErrorMessage]] = {
    "missing_image": ErrorMessage(
        400,
        "Falta la imagen: envíala en el campo «image» del formulario.",
        "The image is missing: send it in the form field “image”.",
    ),
    "empty_image": ErrorMessage(
        400,
        "El archivo de imagen está vacío: envía uno con contenido.",
        "The image file is empty: send one with content.",
    ),
    "several_images": ErrorMessage(
        400,
        "Hay más de una imagen: envía una sola en el campo «image».",
        "There is more than one image: send a single one in the field “image”.",
    ),
    "malformed_request": ErrorMessage(
        400,
        "La petición no se entiende: envía un formulario multipart/form-data completo, con su «boundary».",
        "The request cannot be read: send a complete multipart/form-data form, with its boundary.",
    ),
    "unauthorized": ErrorMessage(
        401,
        "Falta una clave válida: envíala en la cabecera X-API-Key.",
        "A valid key is missing: send it in the header X-API-Key.",
    ),
    "not_found": ErrorMessage(404, "Esta ruta no existe.", "There is no such route."),
    "method_not_allowed": ErrorMessage(
        405,
        "Esta ruta no admite ese método: usa {allowed}.",
        "This route does not allow that method: use {allowed}.",
    ),
    "image_too_large": ErrorMessage(
        413,
        "El archivo pesa demasiado: el máximo son {limit_mb:g} MB.",
        "The file is too large: the maximum is {limit_mb:g} MB.",
    ),
    "request_too_large": ErrorMessage(
        413,
        "La petición trae demasiado: envía menos imágenes, o más pequeñas, y ningún otro campo.",
        "The request is too large: send fewer or smaller images, and no other fields.",
    ),
    "too_many_pixels": ErrorMessage(
        413,
        "La imagen tiene demasiados píxeles: el máximo son {limit_megapixels:g} megapíxeles.",
        "The image has too many pixels: the maximum is {limit_megapixels:g} megapixels.",
    ),
    "unsupported_image": ErrorMessage(
        415,
        "El archivo no es una imagen de un formato admitido: envía {formats}.",
        "The file is not an image in an accepted format: send {formats}.",
    ),
    "unreadable_image": ErrorMessage(
        422,
        "La imagen está dañada o incompleta y no se puede leer: expórtala de nuevo y reenvíala.",
        "The image is damaged or incomplete and cannot be decoded: export it again and resend it.",
    ),
    "image_too_small": ErrorMessage(
        422,
        "La imagen es demasiado pequeña: cada lado debe medir al menos {limit} píxeles.",
        "The image is too small: each side must be at least {limit} pixels.",
    ),
    "overloaded": ErrorMessage(
        429,
        "El servicio está ocupado: inténtalo de nuevo en {seconds} s.",
        "The service is busy: try again in {seconds} s.",
    ),
    "internal_error": ErrorMessage(
        500,
        "Error interno: inténtalo de nuevo y, si se repite, comunica el «requestId».",
        "Internal error: try again and, if it recurs, report the requestId.",
    ),
    "not_ready": ErrorMessage(
        503,
        "El modelo se está cargando: inténtalo de nuevo en unos segundos.",
        "The model is loading: try again in a few seconds.",
    ),
    "draining": ErrorMessage(
        503,
        "El servicio se está deteniendo: inténtalo de nuevo en unos segundos.",
        "The service is stopping: try again in a few seconds.",
    ),
    "deadline_exceeded": ErrorMessage(
        504,
        "La petición esperó demasiado y no se procesó: inténtalo de nuevo en {seconds} s.",
        "The request waited too long and was not processed: try again in {seconds} s.",
    ),
}

REASONS: Final[Mapping[str, ErrorMessage]] = {  # instead of the code's own sentence, where the error states a reason
    "modality": ErrorMessage(
        415,
        "El archivo DICOM es de la modalidad {modality}, que no es una radiografía: envía {accepted}.",
        "The DICOM file has the modality {modality}, which is not a radiograph: send {accepted}.",
    ),
    "unknown_modality": ErrorMessage(
        415,
        "El archivo DICOM no dice ser una radiografía: su modalidad debe ser {accepted}.",
        "The DICOM file does not say that it is a radiograph: its modality must be {accepted}.",
    ),
    "no_pixels": ErrorMessage(
        415,
        "El archivo DICOM no contiene ninguna imagen: envía el objeto que la contiene.",
        "The DICOM file contains no image: send the object that contains it.",
    ),
    "encoding": ErrorMessage(
        415,
        "Los píxeles del archivo DICOM están codificados de un modo no admitido: expórtalo sin comprimir.",
        "The pixels of the DICOM file use an encoding that is not supported: export it uncompressed.",
    ),
    "jpeg_arithmetic": ErrorMessage(
        415,
        "El archivo JPEG usa codificación aritmética, que no se admite: expórtalo como JPEG corriente o PNG.",
        "The JPEG file uses arithmetic coding, which is not accepted: export it as an ordinary JPEG or as PNG.",
    ),
    "bmp_rle": ErrorMessage(
        415,
        "El archivo BMP está comprimido (RLE), lo que no se admite: expórtalo sin comprimir o como PNG.",
        "The BMP file is compressed (RLE), which is not accepted: export it uncompressed or as PNG.",
    ),
    "tiff_encoding": ErrorMessage(
        415,
        "Los píxeles del archivo TIFF están codificados de un modo no admitido: expórtalo como PNG.",
        "The pixels of the TIFF file use an encoding that is not supported: export it as PNG.",
    ),
}

INTENDED_USE: Final[Mapping[Language, str]] = {
    "es": "Ayuda para investigación y triaje; no es un producto sanitario y no sustituye la lectura de un radiólogo.",
    "en": "Research and triage aid; not a medical device and no substitute for a radiologist's reading.",
}

CAVEATS: Final[Mapping[bool, Mapping[Language, str]]] = {
    True: {
        "es": "El mapa muestra qué zonas hablan a favor de «{name}» para la red. No delimita una lesión y puede "
        "señalar mal: compruébalo siempre en la radiografía.",
        "en": "The map shows which regions support “{name}” for the network. It does not outline a lesion and may be "
        "wrong: always check the radiograph itself.",
    },
    False: {
        "es": "No hay mapa: la imagen es uniforme y no se ha consultado a la red.",
        "en": "There is no map: the image is uniform and the network was not run.",
    },
}


def error_message(code: str, language: Language, facts: Mapping[str, object]) -> tuple[int, str]:
    """Return the status and the sentence of an error code, its facts filled in. Raise KeyError for an unknown code.

    A fact named `reason` chooses the sentence of that reason.
    """
    message = REASONS[str(facts["reason"])] if "reason" in facts else ERRORS[code]
    template = message.es if language == "es" else message.en
    return message.status, template.format_map(facts)


def caveat(class_name: str, language: Language, *, asked: bool) -> str:
    """Return the caveat of a heat map; `asked` tells whether the network was run."""
    return CAVEATS[asked][language].format(name=class_name)


def none_of_them(class_names: Sequence[str], language: Language) -> str:
    """Return the message for an image of none of the known classes, naming them."""
    names = _either(class_names, language)
    if language == "es":
        return f"La imagen no corresponde a ninguna de las clases conocidas ({names})."
    return f"The image matches none of the known classes ({names})."


def _either(names: Sequence[str], language: Language) -> str:
    """Join names as «a, b o c»; Spanish says «u» before a word that begins with the sound o."""
    *first, last = names
    if language == "en":
        return f"{', '.join(first)} or {last}"
    conjunction = "u" if last.lower().startswith(("o", "ho", "ó", "hó")) else "o"
    return f"{', '.join(first)} {conjunction} {last}"
