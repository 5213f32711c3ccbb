"""UIDs of results: the same film and the same model always give the same ones, so that a redelivery adds nothing."""

import uuid
from typing import Final

NAMESPACE: Final = uuid.UUID("5d7b7a3e-2f0c-4f1e-9a53-5c3b7e0d4c11")


def derive_uid(kind: str, *parts: str) -> str:
    """Return 2.25 and the decimal form of a name-based UUID (PS3.5 B.2, RFC 9562 version 5) of the parts."""
    return f"2.25.{uuid.uuid5(NAMESPACE, ' '.join((kind, *parts))).int}"
