"""Overload, slow senders, damaged files, bombs, signals and long runs against real server processes.

    python -m benchmarks.reliability [--short] [SCENARIO …]

Without names every scenario runs: about 50 minutes, most of it the soak; --short takes three minutes and proves
little. Results are printed as Markdown rows; docs/reliability.md holds the last full run.
"""

import argparse
import asyncio
import json
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from operator import attrgetter
from statistics import median
from typing import NamedTuple

import numpy as np
import requests

from benchmarks.client import Answer, Client, closed_loop, head, open_loop, prepared
from benchmarks.service import RunningServer, serving
from tests.support.hostile import FORM, bombs, form, seeds
from tests.support.phantoms import encoded, phantom
from web.messages import ERRORS

IMAGES = [encoded(phantom("fractura", (640, 480), seed), "JPEG") for seed in range(3)]
PREDICTS = [prepared("/predict", image) for image in IMAGES]
TABLE = {200} | {message.status for message in ERRORS.values()}


def show(figure: str, value: str) -> None:
    """Print one row of the table."""
    print(f"| {figure} | {value} |", flush=True)


def posted(body: bytes) -> bytes:
    """Return the bytes of a request with this body as its form."""
    return head("POST /predict", {"Content-Type": FORM, "Content-Length": str(len(body))}) + body


def percentile(answers: list[Answer], share: float) -> float:
    """Return the milliseconds under which `share` of the answers stay."""
    return 1000 * float(np.quantile([answer.seconds for answer in answers], share)) if answers else float("nan")


async def capacity(server: RunningServer, seconds: float) -> tuple[float, float]:
    """Return requests per second at concurrency 8, and processor seconds of the server per request."""
    client = Client(server.port)
    await closed_loop(client, 8, 2, PREDICTS)
    cpu = server.cpu_seconds()
    answers = await closed_loop(client, 8, seconds, PREDICTS)
    client.close()
    return len(answers) / seconds, (server.cpu_seconds() - cpu) / len(answers)


async def steady(short: bool) -> None:
    """16 clients at once for 60 s give the answers of one client in turn."""
    with serving() as server:
        client = Client(server.wait("/ready").port)
        alone = [json.loads((await client.send(body)).body) for body in PREDICTS]
        answers = await closed_loop(client, 16, 3 if short else 60, PREDICTS)
        client.close()
        errors = sum(answer.status != 200 for _, answer in answers)
        worst = max(
            abs(shown["probability"] - expected["probability"]) / 100
            for number, answer in answers
            for shown, expected in zip(
                json.loads(answer.body)["allProbabilities"], alone[number]["allProbabilities"], strict=True
            )
        )
        show(
            "16 clients at once: answers, errors, largest difference of a probability",
            f"{len(answers):,}, {errors}, {worst:.4f}",
        )


async def overload(times: float, short: bool) -> None:
    """Open loop beyond capacity: what is answered, how fast, what a refusal costs, and that it passes."""
    with serving() as server:
        rate, cpu_each = await capacity(server.wait("/ready"), 3 if short else 10)
        memory, cpu = server.memory_mb(), server.cpu_seconds()
        client = Client(server.port)
        seconds = 3 if short else 60
        answers = await open_loop(client, times * rate, seconds, PREDICTS)
        cpu = server.cpu_seconds() - cpu
        ended = time.perf_counter()
        while (await client.send(PREDICTS[0])).seconds > 0.2:
            pass
        recovery = time.perf_counter() - ended
        client.close()
        statuses = Counter(answer.status for answer in answers)
        accepted = [answer for answer in answers if answer.status == 200]
        refused = [answer for answer in answers if answer.status == 429]
        each = 1000 * (cpu - cpu_each * len(accepted)) / max(1, len(refused))
        show(f"{times:g} × capacity for {seconds} s (capacity {rate:.0f}/s): statuses", str(dict(statuses)))
        show("· accepted, as a share of capacity", f"{len(accepted) / seconds / rate:.2f}")
        show("· p50, p99 of the accepted", f"{percentile(accepted, 0.5):.0f} ms, {percentile(accepted, 0.99):.0f} ms")
        show("· a refusal: p50, processor time", f"{percentile(refused, 0.5):.0f} ms, {each:.1f} ms")
        show("· Retry-After", str(dict(Counter(answer.headers.get("retry-after") for answer in refused))))
        show(
            "· memory before, after; normal again after",
            f"{memory:.0f} MB, {server.memory_mb():.0f} MB; {recovery:.2f} s",
        )


async def slow_senders(short: bool) -> None:
    """500 connections that send a byte a second, beside one normal caller."""
    count, seconds = (50, 3) if short else (500, 30)
    with serving() as server:
        client = Client(server.wait("/ready").port)
        await closed_loop(client, 1, 2, PREDICTS)
        before = [answer for _, answer in await closed_loop(client, 1, seconds / 2, PREDICTS)]
        start = head("POST /predict", {"Content-Type": FORM, "Content-Length": "1000000"})
        connections = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(count)]
        for _, writer in connections:
            writer.write(start)
        stop = asyncio.Event()

        async def trickle(writer: asyncio.StreamWriter) -> None:
            while not stop.is_set() and not writer.is_closing():
                writer.write(b"-")
                await asyncio.sleep(1)

        tasks = [asyncio.create_task(trickle(writer)) for _, writer in connections]
        beside = [answer for _, answer in await closed_loop(client, 1, seconds / 2, PREDICTS)]
        ratio = percentile(beside, 0.5) / percentile(before, 0.5)
        show(
            f"{count} slow senders: p50 of a normal caller before, beside, ratio",
            f"{percentile(before, 0.5):.1f} ms, {percentile(beside, 0.5):.1f} ms, {ratio:.2f}",
        )
        if not short:
            await asyncio.sleep(35)
            closed = sum([reader.at_eof() for reader, _ in connections])
            show("· closed by the server within 50 s", f"{closed} of {count}")
        stop.set()
        await asyncio.gather(*tasks, return_exceptions=True)
        for _, writer in connections:
            writer.close()
        client.close()


def mutate(data: bytes, other: bytes, chance: random.Random) -> bytes:
    """Damage a file in one to four ways: bits, bytes, numbers, cuts, repeats, a piece of another file."""
    damaged = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        place = chance.randrange(len(damaged)) if damaged else 0
        length = chance.choice((1, 2, 4, 16, 256))
        way = chance.randrange(7)
        if way == 0 and damaged:
            damaged[place] ^= 1 << chance.randrange(8)
        elif way == 1:
            damaged[place : place + length] = chance.randbytes(length)
        elif way == 2:
            damaged[place : place + 4] = chance.choice((0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)).to_bytes(4)
        elif way == 3:
            del damaged[place:]
        elif way == 4:
            del damaged[place : place + length]
        elif way == 5:
            damaged[place:place] = damaged[place : place + length] * chance.choice((1, 2, 50))
        else:
            start = chance.randrange(len(other))
            damaged[place : place + length] = other[start : start + length]
    return bytes(damaged)


async def damaged_files(short: bool) -> None:
    """100,000 damaged files and forms through the real server."""
    count = 500 if short else 100_000
    good = list(seeds().values())
    chance = random.Random(0)  # noqa: S311 a seed that gives the same files again

    def body() -> bytes:
        one, other = chance.choice(good), chance.choice(good)
        if chance.random() < 0.2:
            return mutate(form(one), form(other), chance)
        return form(mutate(one, other, chance))

    with serving(BONE_DEADLINE_SECONDS="60") as server:
        client = Client(server.wait("/ready").port)
        statuses: Counter[str] = Counter()
        slowest, memory = 0.0, []

        async def caller(amount: int) -> None:
            nonlocal slowest
            for number in range(amount):
                answer = await client.send(posted(body()))
                slowest = max(slowest, answer.seconds)
                statuses[
                    f"{answer.status} {json.loads(answer.body).get('code', '') if answer.body else ''}".strip()
                ] += 1
                if number % (amount // 10) == 0:
                    memory.append(server.memory_mb())

        await asyncio.gather(*(caller(count // 4) for _ in range(4)))
        client.close()
        show(f"{count:,} damaged files and forms: answers", str(dict(statuses.most_common())))
        show(
            "· none outside the contract's table, none 5xx",
            str(all(int(name[:3]) in TABLE and int(name[:3]) < 500 for name in statuses)),
        )
        show("· slowest answer", f"{slowest * 1000:.0f} ms")
        show("· memory after a tenth, at the end", f"{memory[4]:.0f} MB, {memory[-1]:.0f} MB")


class Blast(NamedTuple):
    """What one bomb did; seconds with and without those that as many zero bytes take."""

    seconds: float
    beyond_receiving: float
    memory_mb: float
    status: int
    name: str
    size: int


async def explosives(_short: bool) -> None:
    """Every bomb alone: how it is answered, how fast, how much memory it takes above rest.

    A form of as many zero bytes, refused at a glance, tells how much of the time is spent on sending and receiving.
    """
    rows = []
    with serving() as server:
        server.wait("/ready")
        for image in IMAGES * 3:
            requests.post(server.url + "/predict", files={"image": image}, timeout=60)
        for name, body in bombs().items():
            zeros = form(bytes(max(1, len(body) - len(form(b"")))))
            receiving, _ = min(timed_post(server, zeros) for _ in range(3))
            server.reset_peak()
            rest = server.memory_mb()
            seconds, status = timed_post(server, body)
            memory = server.memory_mb("VmHWM") - rest
            rows.append(Blast(seconds, seconds - receiving, memory, status, name, len(body)))
    slowest, costliest, largest = (
        max(rows, key=attrgetter(figure)) for figure in ("seconds", "beyond_receiving", "memory_mb")
    )
    late = (f"{row.name}: {1000 * row.seconds:.0f} ms" for row in rows if row.seconds > 0.1)
    answered = (row.name for row in rows if row.status == 200)
    show(f"{len(rows)} bombs: statuses", str(dict(Counter(row.status for row in rows))))
    show("· slowest", f"{1000 * slowest.seconds:.0f} ms ({slowest.name}, {slowest.size / 1e6:.1f} MB)")
    beyond = f"{1000 * costliest.beyond_receiving:.0f} ms ({costliest.name})"
    show("· slowest, less what as many zero bytes take", beyond)
    show("· over 100 ms", "; ".join(late) or "none")
    show("· most memory above rest", f"{largest.memory_mb:.0f} MB ({largest.name})")
    show("· answered 200, since their first picture is whole", "; ".join(answered))


def timed_post(server: RunningServer, body: bytes) -> tuple[float, int]:
    """Send a form; return the seconds until its answer and the status."""
    started = time.perf_counter()
    answer = requests.post(server.url + "/predict", data=body, headers={"Content-Type": FORM}, timeout=60)
    return time.perf_counter() - started, answer.status_code


async def soak(short: bool) -> None:
    """0.7 × capacity for 20 minutes, one request in ten hostile."""
    seconds = 10 if short else 1200
    hostile = [
        head("POST /predict", {"Content-Type": FORM, "Content-Length": str(len(body))}) + body
        for body in bombs().values()
        if len(body) < 1_000_000
    ]
    bodies = [
        hostile[index // 10 % len(hostile)] if index % 10 == 9 else PREDICTS[index % 3]
        for index in range(10 * len(hostile))
    ]
    with serving() as server:
        rate, _ = await capacity(server.wait("/ready"), 3 if short else 10)
        client = Client(server.port)
        memory: list[float] = []
        statuses: Counter[int] = Counter()
        good_failed = 0
        turns = max(1, int(seconds // 60))
        for turn in range(turns):
            pace = 0.7 * rate
            offset = int(turn * pace * 60) % len(bodies) // 10 * 10
            answers = await open_loop(client, pace, min(60, seconds), bodies[offset:] + bodies[:offset])
            statuses.update(answer.status for answer in answers)
            good_failed += sum(answer.status != 200 for number, answer in enumerate(answers) if number % 10 != 9)
            memory.append(server.memory_mb())
        client.close()
        show(f"soak of {seconds} s at {0.7 * rate:.0f}/s, one in ten hostile: statuses", str(dict(statuses)))
        show("· good requests that failed", str(good_failed))
        show(
            "· memory after the first minute, at the end, growth",
            f"{memory[0]:.0f} MB, {memory[-1]:.0f} MB, {100 * (memory[-1] / memory[0] - 1):+.1f} %",
        )


async def stops(short: bool) -> None:
    """SIGTERM with 64 requests in flight, 20 times: nothing accepted is lost."""
    times = 2 if short else 20
    lost = unready = bad_exits = 0
    for _ in range(times):
        with serving(BONE_DRAIN_SECONDS="60") as server:
            client = Client(server.wait("/ready").port)
            tasks = [asyncio.create_task(client.send(PREDICTS[number % 3])) for number in range(64)]
            await asyncio.sleep(0.15)
            server.process.send_signal(signal.SIGTERM)
            ready = await Client(server.port).send(prepared("/ready"))
            unready += ready.status == 503
            answers = await asyncio.gather(*tasks)
            lost += sum(answer.status != 200 for answer in answers)
            bad_exits += server.process.wait(60) != 0
            client.close()
    show(
        f"SIGTERM with 64 in flight, {times} times: lost, /ready answered 503, exit codes not 0",
        f"{lost}, {unready}, {bad_exits}",
    )


async def kills(short: bool) -> None:
    """SIGKILL under a supervisor that starts the service again, 20 times."""
    times = 2 if short else 20
    first_start, restarts, wrong = 0.0, [], 0
    for turn in range(times):
        started = time.perf_counter()
        with serving() as server:
            server.wait("/ready")
            took = time.perf_counter() - started
            if turn == 0:
                first_start = took
            restarts.append(took)
            client = Client(server.port)
            tasks = [asyncio.create_task(client.send(PREDICTS[number % 3])) for number in range(16)]
            await asyncio.sleep(0.1)
            server.process.kill()
            wrong += sum(answer.status not in (0, 200) for answer in await asyncio.gather(*tasks))
            client.close()
    show(f"SIGKILL, {times} times: answers that are neither whole nor a closed connection", str(wrong))
    show(
        "· ready again after: median, longest; first start",
        f"{median(restarts):.1f} s, {max(restarts):.1f} s; {first_start:.1f} s",
    )


async def three_times(short: bool) -> None:
    """Three times capacity."""
    await overload(3, short)


async def ten_times(short: bool) -> None:
    """Ten times capacity."""
    await overload(10, short)


SCENARIOS: dict[str, Callable[[bool], Coroutine[None, None, None]]] = {
    scenario.__name__: scenario
    for scenario in (steady, three_times, ten_times, slow_senders, explosives, damaged_files, stops, kills, soak)
}


def main() -> None:
    """Run the scenarios named, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=", ".join(SCENARIOS))
    parser.add_argument("--short", action="store_true")
    arguments = parser.parse_args()
    print("| figure | result |\n| --- | --- |")
    for name in arguments.scenarios or SCENARIOS:
        asyncio.run(SCENARIOS[name](arguments.short))


if __name__ == "__main__":
    main()
