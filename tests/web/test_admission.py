import threading
import time

import pytest

from web.admission import Admission, Admissions
from web.errors import ApiError

MOMENT = 0.05


def admission_of(slots, queue_length, deadline_seconds):
    return Admission(slots, threading.Semaphore(queue_length), deadline_seconds)


class Occupant:
    """A thread that holds a slot until it is told to leave."""

    def __init__(self, admission, done=None, **how):
        self.how = how
        self.leave = threading.Event()
        self.error = None
        self.done = [] if done is None else done
        self.thread = threading.Thread(target=self.run, args=(admission,))
        self.thread.start()
        time.sleep(MOMENT)

    def run(self, admission):
        try:
            with admission.slot(**self.how):
                self.done.append(self)
                self.leave.wait(10)
        except ApiError as error:
            self.error = error

    def end(self):
        self.leave.set()
        self.thread.join(10)


def test_as_many_work_at_once_as_there_are_slots():
    admission = admission_of(2, 5, 10)
    occupants = [Occupant(admission) for _ in range(4)]
    assert (admission.working, admission.waiting) == (2, 2)
    for occupant in occupants:
        occupant.end()
    assert (admission.working, admission.waiting) == (0, 0)
    assert not any(occupant.error for occupant in occupants)


def test_the_longest_waiting_request_is_next():
    admission = admission_of(1, 5, 10)
    order = []
    occupants = [Occupant(admission, order) for _ in range(4)]
    for occupant in occupants:
        occupant.end()
    assert order == occupants


def test_a_full_queue_refuses_at_once_and_says_when_to_retry():
    admission = admission_of(1, 1, 10)
    admission._mean_seconds = 3.0
    occupants = [Occupant(admission), Occupant(admission)]
    with pytest.raises(ApiError) as refused, admission.slot():
        pass
    assert refused.value.code == "overloaded"
    assert refused.value.facts["seconds"] == 6  # two before it, three seconds each
    for occupant in occupants:
        occupant.end()


def test_without_a_queue_there_is_no_waiting():
    admission = admission_of(1, 0, 10)
    occupant = Occupant(admission)
    with pytest.raises(ApiError), admission.slot():
        pass
    occupant.end()
    with admission.slot():
        assert admission.working == 1


def test_a_request_that_waits_beyond_the_deadline_is_refused_and_holds_nothing():
    admission = admission_of(1, 5, 2 * MOMENT)
    first, late = Occupant(admission), Occupant(admission)
    late.thread.join(10)
    assert late.error.code == "deadline_exceeded"
    assert (admission.working, admission.waiting) == (1, 0)
    first.end()
    assert admission.working == 0


def test_a_slot_is_free_again_after_an_error():
    admission = admission_of(1, 0, 10)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), admission.slot():
            1 / 0  # noqa: B018
    assert admission.working == 0


def test_retry_after_follows_the_measured_speed():
    admission = admission_of(2, 5, 10)
    for _ in range(100):
        with admission.slot():
            pass
    assert admission._mean_seconds < 0.001
    assert admission.retry_after_seconds() == 1


def test_no_slot_is_lost_when_many_enter_leave_and_give_up():
    admission = admission_of(3, 4, 0.002)
    outcomes = []

    def client():
        for _ in range(200):
            try:
                with admission.slot():
                    time.sleep(0.0005)
                    outcomes.append(admission.working)
            except ApiError as error:
                outcomes.append(error.code)

    threads = [threading.Thread(target=client) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(outcomes) == 12 * 200
    assert {outcome for outcome in outcomes if isinstance(outcome, str)} <= {"overloaded", "deadline_exceeded"}
    assert max(outcome for outcome in outcomes if isinstance(outcome, int)) <= 3
    assert (admission.working, admission.waiting) == (0, 0)


def test_batches_and_predictions_wait_in_one_queue():
    admissions = Admissions(1, 2, 10)
    working = [Occupant(admission) for admission in (admissions.predictions, *[admissions.batches] * 2)]
    waiting = [Occupant(admissions.batches), Occupant(admissions.predictions)]
    assert admissions.waiting == 2
    for admission in (admissions.predictions, admissions.batches):
        with pytest.raises(ApiError), admission.slot():
            pass
    for occupant in working + waiting:
        occupant.end()
    assert admissions.waiting == 0
    assert not any(occupant.error for occupant in working + waiting)


def test_a_request_that_holds_a_slot_of_another_kind_may_wait_although_the_queue_is_full():
    admission = admission_of(1, 0, 10)
    first, second = Occupant(admission), Occupant(admission, always_wait=True)
    assert admission.waiting == 1
    first.end()
    assert second.thread.is_alive()
    second.end()
    assert second.done == [second]
    assert (admission.working, admission.waiting) == (0, 0)


def test_no_more_threads_are_held_than_planned_whatever_arrives():
    admissions, release = Admissions(2, 5, 30), threading.Event()
    held, refused, lock = [], [], threading.Lock()

    def client(kind):
        try:
            with getattr(admissions, kind).slot():
                if kind != "predictions":
                    with admissions.predictions.slot(always_wait=True):
                        release.wait(30)
                release.wait(30)
        except ApiError as error:
            with lock:
                refused.append(error.code)

    for kind in ["batches", "explanations", "predictions"] * 20:
        held.append(threading.Thread(target=client, args=(kind,)))
        held[-1].start()
    time.sleep(4 * MOMENT)
    alive = sum(thread.is_alive() for thread in held)
    release.set()
    for thread in held:
        thread.join(30)
    assert 0 < alive <= admissions.max_held_threads == 2 + 2 + 1 + 5
    assert set(refused) == {"overloaded"}
    assert len(refused) == 60 - alive
