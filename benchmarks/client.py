"""A small asynchronous HTTP client that sends prepared bytes, so that generating load takes little processor time."""

import asyncio
import time
from dataclasses import dataclass

import requests

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(frozen=True)
class Answer:
    """An answer: the status (0 if the connection was closed), the body, the headers, the seconds that it took.

    The names of the headers are in lower case.
    """

    status: int
    body: bytes
    headers: dict[str, str]
    seconds: float


def prepared(path: str, *images: bytes) -> bytes:
    """Return the bytes of a request: a GET, or a POST of the images as a multipart form."""
    method = "POST" if images else "GET"
    files = [("image", ("image", image)) for image in images]
    request = requests.Request(method, "http://localhost" + path, files=files).prepare()
    body = request.body if isinstance(request.body, bytes) else b""
    return head(f"{method} {path}", dict(request.headers)) + body


def head(what: str, headers: dict[str, str]) -> bytes:
    """Return a request's first line and headers, with the empty line after them."""
    lines = [f"{what} HTTP/1.1", "Host: localhost"] + [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


class Client:
    """A pool of connections to 127.0.0.1, each reused after its answer."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._idle: list[Connection] = []

    async def send(self, data: bytes, timeout_seconds: float = 60) -> Answer:
        """Send one request; status 0 if no complete answer came."""
        started = time.perf_counter()
        try:
            async with asyncio.timeout(timeout_seconds):
                status, headers, body = await self._exchange(data)
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            status, headers, body = 0, {}, b""
        return Answer(status, body, headers, time.perf_counter() - started)

    async def _exchange(self, data: bytes) -> tuple[int, dict[str, str], bytes]:
        reader, writer = self._reusable() or await asyncio.open_connection("127.0.0.1", self._port)
        writer.write(data)
        received = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        status_line, *lines = received.strip().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        if headers.get("connection") == "close":
            writer.close()
        else:
            self._idle.append((reader, writer))
        return int(status_line.split(" ")[1]), headers, body

    def _reusable(self) -> Connection | None:
        """Return an idle connection that the server has not closed, if there is one."""
        while self._idle:
            reader, writer = self._idle.pop()
            if not reader.at_eof():
                return reader, writer
            writer.close()
        return None

    def close(self) -> None:
        """Close the idle connections."""
        for _, writer in self._idle:
            writer.close()
        self._idle.clear()


async def open_loop(client: Client, requests_per_second: float, seconds: float, bodies: list[bytes]) -> list[Answer]:
    """Send at a steady rate whatever the server does; the seconds of an answer count from when it was due."""
    tasks = []
    began = time.perf_counter()
    for number in range(int(requests_per_second * seconds)):
        due = began + number / requests_per_second
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        tasks.append(asyncio.create_task(_late(client, bodies[number % len(bodies)], due)))
    return await asyncio.gather(*tasks)


async def _late(client: Client, data: bytes, due: float) -> Answer:
    answer = await client.send(data)
    return Answer(answer.status, answer.body, answer.headers, time.perf_counter() - due)


async def closed_loop(client: Client, clients: int, seconds: float, bodies: list[bytes]) -> list[tuple[int, Answer]]:
    """Let `clients` callers each send their next request after their last answer; return (body index, answer)."""
    answers: list[tuple[int, Answer]] = []
    end = time.perf_counter() + seconds

    async def caller(first: int) -> None:
        number = first
        while time.perf_counter() < end:
            answers.append((number % len(bodies), await client.send(bodies[number % len(bodies)])))
            number += 1

    await asyncio.gather(*(caller(first) for first in range(clients)))
    return answers
