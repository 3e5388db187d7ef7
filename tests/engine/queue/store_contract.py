"""What every store of jobs does. A store's test class inherits this and brings the
fixture ``store``."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from engine.errors import UserError
from engine.events import Phase, Preview, Started, Step, Warned
from engine.queue.job import MOST_ATTEMPTS, JobStatus, JobStore
from engine.request import GenerationRequest


def request(prompt: str = "a red ball") -> GenerationRequest:
    return GenerationRequest(model="fake-model", prompt=prompt, seed=1)


def add(store: JobStore, *prompts: str, priority: int = 0) -> list[str]:
    """The ids of new jobs with these prompts."""
    jobs = store.add([request(prompt) for prompt in prompts], priority)
    return [job.id for job in jobs]


def waiting(store: JobStore) -> list[str]:
    """The prompts of queued jobs in the order they will run."""
    return [job.request.prompt for job in store.list_jobs(JobStatus.queued)]


def step(job: str, number: int) -> Step:
    return Step(
        job=job,
        phase="denoise",
        step=number,
        total=9,
        seconds_per_step=1,
        seconds_left=9 - number,
    )


class StoreContract:
    def test_added_jobs_wait_in_order(self, store):
        first = store.add([request("one"), request("two")])
        second = store.add([request("three")])
        assert waiting(store) == ["one", "two", "three"]
        assert store.list_jobs() == [*first, *second]
        assert {job.status for job in store.list_jobs()} == {JobStatus.queued}
        assert len({job.id for job in store.list_jobs()}) == 3
        assert all(job.id.isalnum() and len(job.id) == 12 for job in first)

    def test_request_comes_back_as_it_was(self, store):
        asked = GenerationRequest(
            model="fake-model",
            prompt='über\u2028"quoted"\n🎈',
            guidance_scale=2.5,
            num_frames=9,
            image_refs=["a.png", "b.png"],
        )
        [job] = store.add([asked])
        assert store.get(job.id).request == asked

    def test_add_takes_ids_unless_they_are_taken_or_unfit(self, store):
        wishes = ["0123456789ab", "0123456789ab", "../x", ""]
        jobs = store.add([request() for _ in wishes], ids=wishes)
        assert jobs[0].id == "0123456789ab"
        assert len({job.id for job in jobs}) == 4
        assert not {job.id for job in jobs[1:]} & set(wishes)

    def test_add_is_all_or_none(self, store):
        with pytest.raises(ValueError):
            store.add([request(), request()], ids=["0123456789ab"])
        assert store.list_jobs() == []

    def test_claim_passes_over_jobs_that_are_not_ready(self, store):
        add(store, "one", "two", "three")
        claimed = store.claim(lambda job: job.request.prompt == "two")
        assert claimed.request.prompt == "two"
        assert store.claim(lambda _: False) is None
        assert waiting(store) == ["one", "three"]
        assert store.claim().request.prompt == "one"

    def test_claim_takes_the_first_and_marks_it_running(self, store):
        one, two = add(store, "one", "two")
        claimed = store.claim()
        assert (claimed.id, claimed.status) == (one, JobStatus.running)
        assert claimed.started_at >= claimed.created_at
        assert store.claim().id == two
        assert store.claim() is None

    def test_higher_priority_runs_first(self, store):
        add(store, "low")
        add(store, "high", priority=5)
        add(store, "last", priority=-1)
        assert waiting(store) == ["high", "low", "last"]
        assert store.claim().request.prompt == "high"

    def test_threads_claim_each_job_once(self, store):
        ids = add(store, *(f"job {number}" for number in range(500)))
        ready = threading.Barrier(8)

        def claim_all(_):
            ready.wait()
            claimed = []
            while (job := store.claim()) is not None:
                claimed.append(job.id)
            return claimed

        with ThreadPoolExecutor(8) as pool:
            claimed = [job for part in pool.map(claim_all, range(8)) for job in part]
        assert len(claimed) == 500
        assert set(claimed) == set(ids)

    def test_jobs_are_listed_running_queued_then_newest_ended(self, store):
        a, b, c, d = add(store, "a", "b", "c", "d")
        store.claim()
        store.finish(a, "/out/a.mp4")
        store.claim()
        store.fail(b, "it broke")
        store.claim()
        assert [job.id for job in store.list_jobs()] == [c, d, b, a]
        ended = store.list_jobs(JobStatus.done, JobStatus.failed)
        assert [job.id for job in ended] == [b, a]

    def test_finished_job_has_its_output(self, store):
        [job] = add(store, "one")
        store.claim()
        store.finish(job, "/out/one.mp4")
        done = store.get(job)
        assert (done.status, done.output) == (JobStatus.done, "/out/one.mp4")
        assert done.finished_at >= done.started_at

    def test_failed_job_has_its_reason_and_can_be_retried_at_the_end(self, store):
        bad, _ = add(store, "bad", "good")
        store.claim()
        store.fail(bad, "it broke")
        failed = store.get(bad)
        assert (failed.status, failed.error, failed.attempts) == (
            JobStatus.failed,
            "it broke",
            1,
        )
        store.retry(bad)
        assert waiting(store) == ["good", "bad"]
        again = store.get(bad)
        assert (again.error, again.attempts, again.finished_at) == (None, 0, None)
        assert again.created_at == failed.created_at  # its video keeps its name

    def test_interrupted_job_goes_back_to_the_head(self, store):
        one, _ = add(store, "one", "two")
        store.claim()
        back = store.interrupted(one, "killed (SIGKILL)", blame=False)
        assert (back.status, back.attempts) == (JobStatus.queued, 0)
        assert waiting(store) == ["one", "two"]

    def test_interruptions_that_are_not_its_fault_never_fail_a_job(self, store):
        [job] = add(store, "one")
        for _ in range(2 * MOST_ATTEMPTS):
            store.claim()
            store.interrupted(job, "killed (SIGKILL)", blame=False)
        assert store.get(job).status is JobStatus.queued

    def test_third_death_that_is_its_fault_fails_a_job(self, store):
        [job] = add(store, "one")
        for _ in range(3):
            store.claim()
            left = store.interrupted(job, "segmentation fault (SIGSEGV)", blame=True)
        assert (left.status, left.attempts) == (JobStatus.failed, 3)
        assert left.error == (
            "the worker died 3 times on this job: segmentation fault (SIGSEGV)"
        )

    def test_interrupted_job_that_was_to_be_cancelled_is(self, store):
        [job] = add(store, "one")
        store.claim()
        store.cancel(job)
        left = store.interrupted(job, "killed (SIGKILL)", blame=False)
        assert left.status is JobStatus.cancelled

    def test_cancelled_queued_job_never_runs_and_can_be_retried(self, store):
        one, _ = add(store, "one", "two")
        assert store.cancel(one) is JobStatus.cancelled
        assert waiting(store) == ["two"]
        store.retry(one)
        assert waiting(store) == ["two", "one"]

    def test_cancel_of_a_running_job_is_noted_until_it_stops(self, store):
        [job] = add(store, "one")
        store.claim()
        assert not store.is_cancel_wanted(job)
        assert store.cancel(job) is JobStatus.running
        assert store.is_cancel_wanted(job)
        store.stopped(job)
        assert store.get(job).status is JobStatus.cancelled
        store.retry(job)
        store.claim()
        assert not store.is_cancel_wanted(job)

    @pytest.mark.parametrize(
        ("moved", "offset", "order"),
        [
            ("c", -1, "acbd"),
            ("c", -9, "cabd"),
            ("a", 2, "bcad"),
            ("a", 9, "bcda"),
            ("b", 0, "abcd"),
        ],
    )
    def test_move_changes_the_order(self, store, moved, offset, order):
        ids = dict(zip("abcd", add(store, *"abcd"), strict=True))
        store.move(ids[moved], offset)
        assert "".join(waiting(store)) == order
        assert "".join(store.claim().request.prompt for _ in order) == order

    def test_move_works_a_thousand_times(self, store):
        a, b, _ = add(store, *"abc")
        for _ in range(500):
            store.move(a, 1)
            store.move(b, 1)
        assert sorted(waiting(store)) == ["a", "b", "c"]
        store.move(a, -2)
        assert waiting(store)[0] == "a"

    def test_move_past_another_priority_takes_it(self, store):
        add(store, "h1", "h2", priority=1)
        low, _ = add(store, "l1", "l2")
        store.move(low, -1)
        assert waiting(store) == ["h1", "l1", "h2", "l2"]
        assert store.get(low).priority == 1
        store.move(low, 2)
        assert waiting(store) == ["h1", "h2", "l2", "l1"]
        assert store.get(low).priority == 0

    def test_added_after_a_move_is_still_last(self, store):
        a, _ = add(store, *"ab")
        store.move(a, 1)
        add(store, "c")
        assert waiting(store) == ["b", "a", "c"]

    def test_set_priority_moves_a_job_behind_those_of_this_priority(self, store):
        a, _ = add(store, *"ab")
        add(store, "h", priority=3)
        store.set_priority(a, 3)
        assert waiting(store) == ["h", "a", "b"]

    def test_removed_and_cleared_jobs_are_forgotten(self, store):
        running, ended, *_ = add(store, *"abcd")
        store.claim()
        store.cancel(ended)
        store.remove(ended)
        assert store.clear() == 2
        assert [job.id for job in store.list_jobs()] == [running]
        assert store.clear() == 0

    def test_paused_queue_gives_no_job(self, store):
        add(store, "one")
        store.pause()
        store.pause()
        assert store.is_paused()
        assert store.claim() is None
        store.resume()
        assert not store.is_paused()
        assert store.claim() is not None

    def test_unknown_job_is_refused_everywhere(self, store):
        calls = [
            lambda: store.get("nope"),
            lambda: store.events("nope"),
            lambda: store.record(Warned(job="nope", message="hm")),
            lambda: store.finish("nope", "/x"),
            lambda: store.fail("nope", "x"),
            lambda: store.interrupted("nope", "x", blame=True),
            lambda: store.cancel("nope"),
            lambda: store.is_cancel_wanted("nope"),
            lambda: store.stopped("nope"),
            lambda: store.retry("nope"),
            lambda: store.move("nope", 1),
            lambda: store.set_priority("nope", 1),
            lambda: store.remove("nope"),
        ]
        for call in calls:
            with pytest.raises(UserError, match="there is no job 'nope'"):
                call()

    def test_wrong_status_is_refused_in_plain_words(self, store):
        running, queued, done = add(store, *"abc")
        store.claim()
        store.move(done, -1)
        store.claim()
        store.finish(done, "/x")
        refused = [
            (lambda: store.finish(queued, "/x"), "is queued; only .* running"),
            (lambda: store.fail(done, "x"), "is done; only .* queued or running"),
            (lambda: store.interrupted(done, "x", blame=True), "is done"),
            (lambda: store.stopped(queued), "is queued"),
            (lambda: store.cancel(done), "is done; only .* queued or running"),
            (lambda: store.retry(queued), "is queued; only .* failed or cancelled"),
            (lambda: store.retry(done), "is done"),
            (lambda: store.move(running, 1), "is running; only .* queued"),
            (lambda: store.set_priority(running, 1), "is running"),
            (lambda: store.remove(running), "is running"),
        ]
        before = store.list_jobs()
        for call, words in refused:
            with pytest.raises(UserError, match=words):
                call()
        assert store.list_jobs() == before

    def test_events_are_replayed_with_only_the_newest_step_and_preview(self, store):
        [job] = add(store, "one")
        store.claim()
        began = Started(job=job, model="fake-model", attempt=1)
        phase = Phase(job=job, phase="denoise", message="a\u2028b")
        for number in range(5):
            store.record(began) if number == 0 else None
            store.record(phase) if number == 0 else None
            store.record(step(job, number))
            store.record(Preview(job=job, step=number, image=f"data:{number}"))
        newest = Preview(job=job, step=4, image="data:4")
        assert store.events(job) == [began, phase, step(job, 4), newest]
        store.finish(job, "/x")
        assert store.events(job) == [began, phase, step(job, 4)]

    def test_events_of_an_earlier_attempt_go_but_for_why_it_ended(self, store):
        [job] = add(store, "one")
        store.claim()
        store.record(Started(job=job, model="fake-model", attempt=1))
        store.record(Warned(job=job, message="a small thing"))
        store.record(step(job, 3))
        died = Warned(job=job, message="the worker died")
        store.record(died)
        store.interrupted(job, "x", blame=True)
        assert died in store.events(job)
        store.claim()
        again = Started(job=job, model="fake-model", attempt=2)
        store.record(again)
        assert store.events(job) == [died, again]

    def test_retry_forgets_the_events(self, store):
        [job] = add(store, "one")
        store.claim()
        store.record(Warned(job=job, message="hm"))
        store.fail(job, "x")
        store.retry(job)
        assert store.events(job) == []

    def test_version_grows_with_every_change_and_event(self, store):
        seen = [store.version()]
        [job] = add(store, "one")
        seen.append(store.version())
        store.claim()
        seen.append(store.version())
        store.record(step(job, 1))
        seen.append(store.version())
        store.finish(job, "/x")
        seen.append(store.version())
        assert seen == sorted(set(seen))
        store.list_jobs()
        assert store.version() == seen[-1]

    def test_listeners_hear_of_changes_but_not_of_events(self, store):
        heard = []
        store.on_change(lambda: heard.append(store.version()))
        [job] = add(store, "one")
        assert len(heard) == 1
        store.claim()
        assert len(heard) == 2
        store.record(step(job, 1))
        assert len(heard) == 2
