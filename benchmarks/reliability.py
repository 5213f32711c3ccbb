"""Put real server processes under overload, slow clients, damaged files, bombs, signals and long runs.

    make bench-reliability [BENCH=--short]
    python -m benchmarks.reliability [--short] [SCENARIO …]

Without names every scenario runs: about 50 minutes, most of it the soak; --short takes three minutes and
proves little. Results are printed as Markdown rows; docs/reliability.md holds the last full run. `make` first writes
the bombs, and the valid files to be damaged, into benchmarks/.cache/hostile.
"""

import argparse
import asyncio
import json
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from operator import attrgetter
from statistics import median
from typing import Final, NamedTuple

import numpy as np
import requests
from numpy.typing import NDArray

from benchmarks.client import Answer, Client, closed_loop, head, open_loop, prepared
from benchmarks.films import draw, encoded
from benchmarks.service import CACHE, RunningServer, serving

HOSTILE: Final = CACHE / "hostile"
FORM: Final = "multipart/form-data; boundary=bomb"
PREDICTS: Final = [prepared("/predict", encoded(draw((640, 480), seed), "JPEG")) for seed in range(3)]
REFUSALS: Final = {400, 413, 415, 422}  # the errors of the contract that a file or a form alone can cause


def show(figure: str, value: str) -> None:
    """Print one row of the table."""
    print(f"| {figure} | {value} |", flush=True)


@contextmanager
def service(**settings: str) -> Iterator[tuple[RunningServer, Client]]:
    """Run the service with these settings, and yield it with a client once it is ready."""
    with serving(**settings) as server:
        client = Client(server.wait("/ready").port)
        try:
            yield server, client
        finally:
            client.close()


def hostile(kind: str) -> dict[str, bytes]:
    """Read the `bombs` (bodies of requests) or the `good` files, by name."""
    files = sorted((HOSTILE / kind).glob("*"))
    if not files:
        raise SystemExit(f"{HOSTILE} is empty: make bench-reliability fills it")
    return {file.name: file.read_bytes() for file in files}


def form(image: bytes) -> bytes:
    """Return the body of a form that contains this file."""
    start = b'--bomb\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
    return start + image + b"\r\n--bomb--\r\n"


def posted(body: bytes) -> bytes:
    """Return the bytes of a request with this form as its body."""
    return head("POST /predict", {"Content-Type": FORM, "Content-Length": str(len(body))}) + body


def percentile(answers: list[Answer], share: float) -> float:
    """Return the milliseconds within which `share` of the answers came."""
    return 1000 * float(np.quantile([answer.seconds for answer in answers], share)) if answers else float("nan")


async def capacity(server: RunningServer, client: Client, seconds: float) -> tuple[float, float]:
    """Return requests per second at concurrency 8, and processor seconds of the server per request."""
    await closed_loop(client, 8, 2, PREDICTS)
    cpu = server.cpu_seconds()
    answers = await closed_loop(client, 8, seconds, PREDICTS)
    return len(answers) / seconds, (server.cpu_seconds() - cpu) / len(answers)


async def steady(short: bool) -> None:
    """Compare the answers of 16 concurrent clients for 60 s with those of one client."""
    with service() as (_, client):
        alone = [_probabilities(await client.send(body)) for body in PREDICTS]
        answers = await closed_loop(client, 16, 3 if short else 60, PREDICTS)
    good = [(number, answer) for number, answer in answers if answer.status == 200]
    worst = max(np.abs(_probabilities(answer) - alone[number]).max() for number, answer in good) / 100
    title = "16 clients at once: answers, errors, largest difference of a probability"
    show(title, f"{len(answers):,}, {len(answers) - len(good)}, {worst:.4f}")


def _probabilities(answer: Answer) -> NDArray[np.float64]:
    return np.array([shown["probability"] for shown in json.loads(answer.body)["allProbabilities"]])


async def overload(times: float, short: bool) -> None:
    """Send more than capacity in an open loop: what is answered, how fast, what a refusal costs, the recovery."""
    seconds = 3 if short else 60
    with service() as (server, client):
        rate, cpu_each = await capacity(server, client, 3 if short else 10)
        memory, cpu = server.memory_mb(), server.cpu_seconds()
        answers = await open_loop(client, times * rate, seconds, PREDICTS)
        cpu = server.cpu_seconds() - cpu
        ended = time.perf_counter()
        while (await client.send(PREDICTS[0])).seconds > 0.2:
            pass
        recovery = time.perf_counter() - ended
        memories = f"{memory:.0f} MB, {server.memory_mb():.0f} MB"
    accepted, refused = ([answer for answer in answers if answer.status == status] for status in (200, 429))
    each = 1000 * (cpu - cpu_each * len(accepted)) / max(1, len(refused))
    statuses = Counter(answer.status for answer in answers)
    show(f"{times:g} × capacity for {seconds} s (capacity {rate:.0f}/s): statuses", str(dict(statuses)))
    show("· accepted, as a share of capacity", f"{len(accepted) / seconds / rate:.2f}")
    show("· p50, p99 of the accepted", f"{percentile(accepted, 0.5):.0f} ms, {percentile(accepted, 0.99):.0f} ms")
    show("· a refusal: p50, processor time", f"{percentile(refused, 0.5):.0f} ms, {each:.1f} ms")
    show("· Retry-After", str(dict(Counter(answer.headers.get("retry-after") for answer in refused))))
    show("· memory before, after; normal again after", f"{memories}; {recovery:.2f} s")


async def three_times(short: bool) -> None:
    """Send three times capacity."""
    await overload(3, short)


async def ten_times(short: bool) -> None:
    """Send ten times capacity."""
    await overload(10, short)


async def probes(short: bool) -> None:
    """Ask for /health, from a process of its own, while batches, explanations and predictions of 0.6 MB all queue."""
    seconds = 3 if short else 30
    films = [encoded(draw((1200, 960), seed), "PNG") for seed in range(4)]
    batch = prepared("/predict/batch", *films, *films, *films, *films)
    explanation, prediction = prepared("/predict?explain=1", films[0]), prepared("/predict", films[1])
    for settings in ({}, {"BONE_MAX_IN_FLIGHT": "1", "BONE_MAX_QUEUE": "20"}):
        with service(**settings) as (server, client), ProcessPoolExecutor(1) as prober:
            asking = asyncio.get_running_loop().run_in_executor(prober, ask_for_health, server.url, seconds)
            loads = ((22, batch), (4, explanation), (40, prediction))
            answers = await asyncio.gather(*(closed_loop(client, count, seconds, [body]) for count, body in loads))
            waits = 1000 * np.array(await asking)
        figures = ", ".join(f"{value:.0f} ms" for value in (*np.quantile(waits, (0.5, 0.99)), waits.max()))
        show(f"/health beside batches, explanations, predictions ({settings or 'defaults'}): p50, p99, max", figures)
        statuses = Counter(answer.status for several in answers for _, answer in several)
        show("· probes; answers to the others", f"{len(waits)}; {dict(statuses)}")


def ask_for_health(url: str, seconds: float) -> list[float]:
    """Ask for /health 20 times a second; return the seconds that each answer took."""
    waits = []
    with requests.Session() as session:
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            asked = time.perf_counter()
            session.get(url + "/health", timeout=60).raise_for_status()
            waits.append(time.perf_counter() - asked)
            time.sleep(0.05)
    return waits


async def crowd(short: bool) -> None:
    """Compare the answers a second of 128 callers, most of them refused again and again, with those of 8."""
    rounds, seconds = (1, 1) if short else (5, 6)
    ratios, refused = [], 0
    with service() as (_, client):
        for number in range(1 + rounds):  # the first warms up
            rates = {}
            for callers in (8, 128):
                answers = [answer for _, answer in await closed_loop(client, callers, seconds, PREDICTS)]
                rates[callers] = sum(answer.status == 200 for answer in answers) / seconds
                refused += sum(answer.status == 429 for answer in answers)
                await asyncio.sleep(1)
            if number:
                ratios.append(rates[128] / rates[8])
                show(f"128 callers, 8 callers: answers a second, ratio (round {number})", _rates(rates))
    show(f"· median ratio of {rounds} rounds; refusals", f"{median(ratios):.2f}; {refused}")


def _rates(rates: dict[int, float]) -> str:
    return f"{rates[128]:.1f}, {rates[8]:.1f}, {rates[128] / rates[8]:.2f}"


async def slow_senders(short: bool) -> None:
    """Send a byte a second on each of 500 connections, beside one normal caller."""
    count, seconds = (50, 3) if short else (500, 30)
    start = head("POST /predict", {"Content-Type": FORM, "Content-Length": "1000000"})

    async def trickle(writer: asyncio.StreamWriter) -> None:
        while not writer.is_closing():
            writer.write(b"-")
            await asyncio.sleep(1)

    with service() as (server, client):
        await closed_loop(client, 1, 2, PREDICTS)
        before = [answer for _, answer in await closed_loop(client, 1, seconds / 2, PREDICTS)]
        connections = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(count)]
        for _, writer in connections:
            writer.write(start)
        senders = [asyncio.create_task(trickle(writer)) for _, writer in connections]
        beside = [answer for _, answer in await closed_loop(client, 1, seconds / 2, PREDICTS)]
        alone, together = percentile(before, 0.5), percentile(beside, 0.5)
        title = f"{count} slow senders: p50 of a normal caller before, beside, ratio"
        show(title, f"{alone:.1f} ms, {together:.1f} ms, {together / alone:.2f}")
        if not short:
            await asyncio.sleep(35)
            closed = sum([reader.at_eof() for reader, _ in connections])
            show("· closed by the server within 50 s", f"{closed} of {count}")
        for sender in senders:
            sender.cancel()
        for _, writer in connections:
            writer.close()


def damage(data: bytes, other: bytes, chance: random.Random) -> bytes:
    """Damage a file in one to four ways: cut, overwrite, insert or repeat noise, extremes or another file's bytes."""
    for _ in range(chance.randint(1, 4)):
        index, length = chance.randrange(len(data) + 1), chance.choice((1, 2, 4, 16, 256))
        start = chance.randrange(len(other))
        pieces = (
            b"",
            chance.randbytes(length),
            bytes(4),
            b"\xff" * 4,
            b"\x7f\xff\xff\xff",
            other[start : start + length],
        )
        piece = chance.choice((*pieces, data[index : index + length] * chance.choice((2, 50))))
        rest = chance.choice((index, index + len(piece), index + length, len(data)))
        data = data[:index] + piece + data[rest:]
    return data


async def damaged_files(short: bool) -> None:
    """Send 100,000 damaged files and forms."""
    count = 500 if short else 100_000
    good = list(hostile("good").values())
    chance = random.Random(0)  # noqa: S311 a seed that gives the same files again
    answers: Counter[str] = Counter()
    memory: list[float] = []
    slowest = 0.0

    def body() -> bytes:
        one, other = chance.choice(good), chance.choice(good)
        return damage(form(one), form(other), chance) if chance.random() < 0.2 else form(damage(one, other, chance))

    async def caller(amount: int) -> None:
        nonlocal slowest
        for number in range(amount):
            answer = await client.send(posted(body()))
            slowest = max(slowest, answer.seconds)
            code = json.loads(answer.body).get("code", "") if answer.body else ""
            answers[f"{answer.status} {code}".strip()] += 1
            if number % (amount // 10) == 0:
                memory.append(server.memory_mb())

    with service(BONE_DEADLINE_SECONDS="60") as (server, client):
        await asyncio.gather(*(caller(count // 4) for _ in range(4)))
    known = all(int(name[:3]) in {200} | REFUSALS for name in answers)
    show(f"{count:,} damaged files and forms: answers", str(dict(answers.most_common())))
    show("· none outside the contract's table, none 5xx", str(known))
    show("· slowest answer", f"{slowest * 1000:.0f} ms")
    show("· memory after a tenth, at the end", f"{memory[4]:.0f} MB, {memory[-1]:.0f} MB")


class Blast(NamedTuple):
    """The effect of one bomb; seconds with and without those that as many zero bytes take."""

    seconds: float
    beyond_receiving: float
    memory_mb: float
    status: int
    name: str
    size: int


def set_off(server: RunningServer, name: str, body: bytes) -> Blast:
    """Send one bomb, and a form of as many zero bytes, which shows how long sending and receiving take."""
    zeros = form(bytes(max(1, len(body) - len(form(b"")))))
    receiving = min(timed_post(server, zeros)[0] for _ in range(3))
    server.reset_peak()
    rest = server.memory_mb()
    seconds, status = timed_post(server, body)
    return Blast(seconds, seconds - receiving, server.memory_mb("VmHWM") - rest, status, name, len(body))


def timed_post(server: RunningServer, body: bytes) -> tuple[float, int]:
    """Send a form; return the seconds until its answer and the status."""
    started = time.perf_counter()
    answer = requests.post(server.url + "/predict", data=body, headers={"Content-Type": FORM}, timeout=60)
    return time.perf_counter() - started, answer.status_code


async def explosives(_short: bool) -> None:
    """Send every bomb by itself: how it is answered, how fast, and how much memory it takes above rest."""
    with service() as (server, client):
        for request in PREDICTS * 3:
            await client.send(request)
        blasts = [set_off(server, name, body) for name, body in hostile("bombs").items()]
    slowest, costliest, largest = (
        max(blasts, key=attrgetter(figure)) for figure in ("seconds", "beyond_receiving", "memory_mb")
    )
    late = [f"{blast.name}: {1000 * blast.seconds:.0f} ms" for blast in blasts if blast.seconds > 0.1]
    answered = [blast.name for blast in blasts if blast.status == 200]
    show(f"{len(blasts)} bombs: statuses", str(dict(Counter(blast.status for blast in blasts))))
    show("· slowest", f"{1000 * slowest.seconds:.0f} ms ({slowest.name}, {slowest.size / 1e6:.1f} MB)")
    beyond = f"{1000 * costliest.beyond_receiving:.0f} ms ({costliest.name})"
    show("· slowest, less what as many zero bytes take", beyond)
    show("· over 100 ms", "; ".join(late) or "none")
    show("· most memory above rest", f"{largest.memory_mb:.0f} MB ({largest.name})")
    show("· answered 200, since their first picture is whole", "; ".join(answered))


async def soak(short: bool) -> None:
    """Send 0.7 × capacity for 20 minutes, one request in ten hostile."""
    seconds = 10 if short else 1200
    bombs = [posted(body) for body in hostile("bombs").values() if len(body) < 1_000_000]
    bodies = [body for index, bomb in enumerate(bombs) for body in (*(PREDICTS * 4)[index % 3 :][:9], bomb)]
    memory: list[float] = []
    statuses: Counter[int] = Counter()
    good_failed = 0
    with service() as (server, client):
        pace = 0.7 * (await capacity(server, client, 3 if short else 10))[0]
        for turn in range(max(1, seconds // 60)):
            offset = int(turn * pace * 60) % len(bodies) // 10 * 10
            answers = await open_loop(client, pace, min(60, seconds), bodies[offset:] + bodies[:offset])
            statuses.update(answer.status for answer in answers)
            good_failed += sum(answer.status != 200 for number, answer in enumerate(answers) if number % 10 != 9)
            memory.append(server.memory_mb())
    growth = f"{100 * (memory[-1] / memory[0] - 1):+.1f} %"
    show(f"soak of {seconds} s at {pace:.0f}/s, one in ten hostile: statuses", str(dict(statuses)))
    show("· good requests that failed", str(good_failed))
    show("· memory after the first minute, at the end, growth", f"{memory[0]:.0f} MB, {memory[-1]:.0f} MB, {growth}")


async def stops(short: bool) -> None:
    """Send SIGTERM with 64 requests in flight, 20 times: no accepted request may be lost."""
    times = 2 if short else 20
    lost = unready = bad_exits = 0
    for _ in range(times):
        with service(BONE_DRAIN_SECONDS="60") as (server, client):
            tasks = [asyncio.create_task(client.send(PREDICTS[number % 3])) for number in range(64)]
            await asyncio.sleep(0.15)
            server.process.send_signal(signal.SIGTERM)
            ready = await Client(server.port).send(prepared("/ready"))
            unready += ready.status == 503
            lost += sum(answer.status != 200 for answer in await asyncio.gather(*tasks))
            bad_exits += server.process.wait(60) != 0
    title = f"SIGTERM with 64 in flight, {times} times: lost, /ready answered 503, exit codes not 0"
    show(title, f"{lost}, {unready}, {bad_exits}")


async def kills(short: bool) -> None:
    """Send SIGKILL and start the service again, 20 times."""
    times = 2 if short else 20
    starts, wrong = [], 0
    for _ in range(times):
        with service() as (server, client):
            starts.append(time.perf_counter() - server.started)
            tasks = [asyncio.create_task(client.send(PREDICTS[number % 3])) for number in range(16)]
            await asyncio.sleep(0.1)
            server.process.kill()
            wrong += sum(answer.status not in (0, 200) for answer in await asyncio.gather(*tasks))
    show(f"SIGKILL, {times} times: answers that are neither whole nor a closed connection", str(wrong))
    show(
        "· ready again after: median, longest; first start",
        f"{median(starts):.1f} s, {max(starts):.1f} s; {starts[0]:.1f} s",
    )


SCENARIOS: dict[str, Callable[[bool], Coroutine[None, None, None]]] = {
    scenario.__name__: scenario
    for scenario in (
        steady,
        crowd,
        three_times,
        ten_times,
        probes,
        slow_senders,
        explosives,
        damaged_files,
        stops,
        kills,
        soak,
    )
}


def main() -> None:
    """Run the named scenarios, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=", ".join(SCENARIOS))
    parser.add_argument("--short", action="store_true")
    arguments = parser.parse_args()
    print("| figure | result |\n| --- | --- |")
    for name in arguments.scenarios or SCENARIOS:
        asyncio.run(SCENARIOS[name](arguments.short))


if __name__ == "__main__":
    main()
