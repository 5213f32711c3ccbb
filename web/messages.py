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
        "El archivo de imagen está vacío: envía otro.",
        "The image file is empty: send another one.",
    ),
    "several_images": ErrorMessage(
        400,
        "Hay más de una imagen: envía una sola en el campo «image».",
        "There is more than one image: send a single one in the field “image”.",
    ),
    "malformed_request": ErrorMessage(
        400,
        "La petición está mal formada: envía un formulario multipart/form-data completo, con su «boundary».",
        "The request is malformed: send a complete multipart/form-data form, with its boundary.",
    ),
    "unauthorized": ErrorMessage(
        401,
        "Falta una clave válida: envíala en la cabecera X-API-Key.",
        "A valid key is missing: send one in the X-API-Key header.",
    ),
    "not_found": ErrorMessage(404, "Esta ruta no existe.", "This route does not exist."),
    "method_not_allowed": ErrorMessage(
        405,
        "Esta ruta no admite ese método: usa {allowed}.",
        "This route does not allow that method: use {allowed}.",
    ),
    "image_too_large": ErrorMessage(
        413,
        "El archivo es demasiado grande: el máximo es de {limit_mb} MB.",
        "The file is too large: the maximum is {limit_mb} MB.",
    ),
    "request_too_large": ErrorMessage(
        413,
        "El formulario tiene demasiados campos o demasiado texto: como máximo, {limit} campos y {limit_kb} kB.",
        "The form has too many fields or too much text: up to {limit} fields and {limit_kb} kB of text are accepted.",
    ),
    "too_many_pixels": ErrorMessage(
        413,
        "La imagen tiene demasiados píxeles: el máximo es de {limit_megapixels} megapíxeles.",
        "The image has too many pixels: the maximum is {limit_megapixels} megapixels.",
    ),
    "unsupported_image": ErrorMessage(
        415,
        "El archivo no es una imagen en un formato admitido: envía {formats}.",
        "The file is not an image in an accepted format: send {formats}.",
    ),
    "unreadable_image": ErrorMessage(
        422,
        "La imagen está dañada o incompleta y no se puede leer: expórtala de nuevo y vuelve a enviarla.",
        "The image is damaged or incomplete and cannot be read: export it again and resend it.",
    ),
    "image_too_small": ErrorMessage(
        422,
        "La imagen es demasiado pequeña: cada lado debe medir al menos {limit} píxeles.",
        "The image is too small: each side must be at least {limit} pixels.",
    ),
    "overloaded": ErrorMessage(
        429,
        "El servicio está ocupado: vuelve a intentarlo dentro de {seconds} s.",
        "The service is busy: try again in {seconds} s.",
    ),
    "internal_error": ErrorMessage(
        500,
        "Error interno: vuelve a intentarlo y, si se repite, comunica el identificador de la petición.",
        "Internal error: try again and, if it happens again, report the request ID.",
    ),
    "not_ready": ErrorMessage(
        503,
        "El modelo se está cargando: vuelve a intentarlo dentro de unos segundos.",
        "The model is loading: try again in a few seconds.",
    ),
    "draining": ErrorMessage(
        503,
        "El servicio se está deteniendo: vuelve a intentarlo dentro de unos segundos.",
        "The service is stopping: try again in a few seconds.",
    ),
    "deadline_exceeded": ErrorMessage(
        504,
        "La petición esperó demasiado y no se procesó: vuelve a intentarlo dentro de {seconds} s.",
        "The request waited too long and was not processed: try again in {seconds} s.",
    ),
}

REASONS: Final[Mapping[str, ErrorMessage]] = {  # instead of the code's own sentence, where the error states a reason
    "too_many_images": ErrorMessage(
        413,
        "La petición tiene demasiadas imágenes: envía como máximo {limit} imágenes.",
        "The request has too many images: send at most {limit} images.",
    ),
    "images_too_large": ErrorMessage(
        413,
        "Las imágenes son demasiado grandes en conjunto: el máximo es de {limit_mb} MB.",
        "The images are too large together: the maximum is {limit_mb} MB.",
    ),
    "image_as_text": ErrorMessage(
        400,
        "El campo «image» contiene texto: envía en él la imagen como archivo.",
        "The field “image” contains text: send the image in it as a file.",
    ),
    "image_in_other_field": ErrorMessage(
        400,
        "El archivo está en otro campo: envíalo en el campo «image».",
        "The file is in another field: send it in the field “image”.",
    ),
    "content_encoding": ErrorMessage(
        415,
        "El cuerpo está comprimido (Content-Encoding), lo que no se admite: envíalo sin comprimir.",
        "The body is compressed (Content-Encoding), which is not supported: send it as it is.",
    ),
    "modality": ErrorMessage(
        415,
        "El archivo DICOM es de la modalidad {modality}, que no corresponde a una radiografía: envía {accepted}.",
        "The DICOM file has the modality {modality}, which is not that of a radiograph: send {accepted}.",
    ),
    "unknown_modality": ErrorMessage(
        415,
        "El archivo DICOM no indica que sea una radiografía: su modalidad debe ser {accepted}.",
        "The DICOM file does not state that it is a radiograph: its modality must be {accepted}.",
    ),
    "no_pixels": ErrorMessage(
        415,
        "El archivo DICOM no contiene ninguna imagen: envía el objeto que la contiene.",
        "The DICOM file contains no image: send the object that contains it.",
    ),
    "encoding": ErrorMessage(
        415,
        "Los píxeles del archivo DICOM usan una codificación que no se admite: expórtalo sin comprimir.",
        "The pixels of the DICOM file use an encoding that is not accepted: export it uncompressed.",
    ),
    "jpeg_arithmetic": ErrorMessage(
        415,
        "El archivo JPEG usa codificación aritmética, que no se admite: expórtalo como JPEG convencional o como PNG.",
        "The JPEG file uses arithmetic coding, which is not accepted: export it as an ordinary JPEG or as PNG.",
    ),
    "bmp_encoding": ErrorMessage(
        415,
        "El archivo BMP está comprimido o codificado de un modo no admitido: expórtalo como PNG.",
        "The BMP file is compressed or uses an encoding that is not supported: export it as PNG.",
    ),
    "tiff_encoding": ErrorMessage(
        415,
        "Los píxeles del archivo TIFF usan una codificación que no se admite: expórtalo como PNG.",
        "The pixels of the TIFF file use an encoding that is not accepted: export it as PNG.",
    ),
}

INTENDED_USE: Final[Mapping[Language, str]] = {
    "es": "Ayuda para investigación y triaje; no es un producto sanitario (dispositivo médico) y no sustituye la "
    "lectura de un radiólogo.",
    "en": "Research and triage aid; not a medical device and no substitute for a radiologist's reading.",
}

CAVEATS: Final[Mapping[bool, Mapping[Language, str]]] = {  # whether the network was run
    True: {
        "es": "El mapa muestra dónde ve indicios la red. No delimita una lesión y puede equivocarse: comprueba siempre "
        "la radiografía.",
        "en": "The map shows where the network sees evidence. It does not outline a lesion and may be wrong: always "
        "check the radiograph itself.",
    },
    False: {
        "es": "No hay mapa: la imagen es uniforme y no se consultó a la red.",
        "en": "There is no map: the image is uniform and the network was not run.",
    },
}

ENGLISH_CLASS_NAMES: Final[Mapping[str, str]] = {"fisura": "hairline fracture", "fractura": "fracture"}


def error_message(code: str, language: Language, facts: Mapping[str, object]) -> tuple[int, str]:
    """Return the status and the sentence of an error code, its facts filled in. Raise KeyError for an unknown code.

    A fact named `reason` chooses the sentence of that reason. Numbers and lists are written as the language has them.
    """
    message = REASONS[str(facts["reason"])] if "reason" in facts else ERRORS[code]
    template = message.es if language == "es" else message.en
    return message.status, template.format_map({name: _written(fact, language) for name, fact in facts.items()})


def none_of_them(class_names: Sequence[str], language: Language) -> str:
    """Return the message for an image of none of the known classes, naming them."""
    if language == "es":
        return f"La imagen no corresponde a ninguna de las clases conocidas ({_either(class_names, language)})."
    names = [f"{name} ({ENGLISH_CLASS_NAMES[name]})" if name in ENGLISH_CLASS_NAMES else name for name in class_names]
    return f"The image matches none of the known classes: {_either(names, language)}."


def _written(fact: object, language: Language) -> object:
    """Return a fact as a sentence has it: `0,5`, or `CR, DX o MG`."""
    if isinstance(fact, float):
        return f"{fact:g}".replace(".", "," if language == "es" else ".")
    return _either(fact, language) if isinstance(fact, tuple) else fact


def _either(names: Sequence[str], language: Language) -> str:
    """Join names as «a, b o c»; Spanish says «u» before a word that begins with the sound o."""
    *first, last = names
    if not first:
        return last
    if language == "en":
        return f"{', '.join(first)} or {last}"
    conjunction = "u" if last.lower().startswith(("o", "ho", "ó", "hó")) else "o"
    return f"{', '.join(first)} {conjunction} {last}"
