"""A small asynchronous HTTP client: sends prepared bytes, so that the load generator costs little of the processor."""

import asyncio
import time
from dataclasses import dataclass

import requests

RECEIVE_BYTES = 65_536


@dataclass(frozen=True)
class Answer:
    """What came back: the status (0 where the connection was closed), the body, the headers, the seconds it took."""

    status: int
    body: bytes
    headers: dict[str, str]
    seconds: float


def prepared(path: str, image: bytes | None = None, close: bool = True) -> bytes:
    """Return the bytes of a request: a GET, or a POST of the image as a multipart form."""
    method = "GET" if image is None else "POST"
    files = None if image is None else {"image": ("image", image)}
    request = requests.Request(method, "http://localhost" + path, files=files).prepare()
    body = request.body if isinstance(request.body, bytes) else b""
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", f"Connection: {'close' if close else 'keep-alive'}"]
    lines += [f"{name}: {value}" for name, value in request.headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


async def send(port: int, data: bytes, timeout: float = 60) -> Answer:
    """Send one prepared request on a connection of its own to 127.0.0.1 and return the answer."""
    started = time.perf_counter()
    try:
        async with asyncio.timeout(timeout):
            received = await _exchange(port, data)
    except (OSError, TimeoutError):
        received = b""
    head, _, body = received.partition(b"\r\n\r\n")
    status_line, *header_lines = head.decode("latin-1").split("\r\n")
    headers = dict(line.split(": ", 1) for line in header_lines if ": " in line)
    status = int(status_line.split(" ")[1]) if status_line.startswith("HTTP/") else 0
    return Answer(status, body, headers, time.perf_counter() - started)


async def _exchange(port: int, data: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(data)
        await writer.drain()
        return await reader.read(-1)
    finally:
        writer.close()
