"""A crew of worker processes: what they say, how they end, and who is told."""

from __future__ import annotations

import io
import json
import os
import threading
import time
from functools import partial
from pathlib import Path
from typing import IO

import pytest

from fedspec.clock import FakeClock
from fedspec.config import FederatedConfig
from fedspec.errors import QueueMissingError, SetupError
from fedspec.files import DiskFiles
from fedspec.plan import make_item
from fedspec.supervisor import (
    SYNCTHING_IGNORES,
    Crew,
    LoggingReporter,
    Message,
    Settings,
    _PipeReporter,
    _write,
    keep_private,
    open_worker,
)
from fedspec.worker import StopSignal
from fedspec.worker.teller import Teller
from fedspec.workqueue.distributor import WorkDistributor
from fedspec.workqueue.records import Bye, Hello, decode
from fedspec.workspace import Workspace


class Listener:
    """A reporter that keeps what it hears."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.statuses: list[str] = []
        self.heard = threading.Event()

    def event(self, text: str) -> None:
        self.events.append(text)
        self.heard.set()

    def status(self, text: str) -> None:
        self.statuses.append(text)
        self.heard.set()


def settings(workspace: Path) -> Settings:
    return Settings(workspace=str(workspace), name="Mac", time_scale=0.02)


def records(workspace: Path) -> list[object]:
    lines = [line for path in (workspace / "distributed_work" / "journal").glob("*") for line in path.read_bytes().split(b"\n")]
    return [record for record in map(decode, lines) if record is not None]


def test_workers_that_cannot_begin_end_the_crew_with_their_exit_code_and_their_error(tmp_path: Path):
    outcome = Crew(settings(tmp_path / "absent"), 2, Listener()).run(StopSignal())
    assert outcome.code == SetupError.exit_code
    assert {(error.error, bool(error.fix)) for error in outcome.errors} == {
        (f"There is no folder {tmp_path / 'absent'}.", True)
    }


@pytest.mark.skipif(os.name == "nt", reason="sends POSIX signals")
def test_a_worker_that_is_killed_is_started_again_and_the_crew_ends_well(tmp_path: Path):
    queue = WorkDistributor(tmp_path)
    queue.enqueue([make_item("federated", FederatedConfig(clients=2, rounds=2, batch_size=64))])
    listener = Listener()
    crew = Crew(settings(tmp_path), 1, listener)

    def kill() -> None:
        while not crew._children:
            time.sleep(0.01)
        crew._children[0].process.kill()

    killer = threading.Thread(target=kill)
    killer.start()
    outcome = crew.run(StopSignal())
    killer.join()
    assert outcome.code == 0
    assert any("ended unexpectedly (signal 9); started again" in event for event in listener.events)
    assert queue.progress().completed == 1


@pytest.mark.long
@pytest.mark.skipif(os.name == "nt", reason="sends POSIX signals")
def test_a_worker_that_dies_while_the_crew_stops_is_not_started_again(tmp_path: Path):
    queue = WorkDistributor(tmp_path)
    queue.enqueue([make_item("federated", FederatedConfig(clients=2, rounds=1, local_epochs=2000))])
    listener, stop = Listener(), StopSignal()
    crew = Crew(settings(tmp_path), 1, listener)

    def interfere() -> None:
        listener.heard.wait(60)
        process = crew._children[0].process
        stop.request()
        process.kill()

    meddler = threading.Thread(target=interfere)
    meddler.start()
    outcome = crew.run(stop)
    meddler.join()
    assert outcome.code == 4
    assert len([record for record in records(tmp_path) if isinstance(record, Hello)]) == 1


def speaking(out: IO[bytes]) -> Teller[Message]:
    return Teller(partial(_write, out), partial(_write, out))


def test_a_parent_that_is_gone_does_not_disturb_its_workers_work():
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb", buffering=0) as out, speaking(out) as teller:
        voice = _PipeReporter(teller)
        voice.event("nobody hears this")
        voice.status("nor this")


def test_a_worker_speaks_in_one_line_of_json_each():
    out = io.BytesIO()
    with speaking(out) as teller:
        voice = _PipeReporter(teller)
        voice.event("two\nlines")
        voice.say(Message(error="what", fix="how"))
    assert out.getvalue() == b'{"event":"two\\nlines"}\n{"error":"what","fix":"how"}\n'


def test_a_parent_that_does_not_listen_stops_no_worker_and_hears_every_event_later():
    reading, writing = os.pipe()
    told: list[bytes] = []
    with os.fdopen(reading, "rb") as parent:
        listening = threading.Thread(target=lambda: told.extend(parent))
        with os.fdopen(writing, "wb") as out, speaking(out) as teller:
            voice = _PipeReporter(teller)
            for number in range(3000):  # far more than a pipe holds
                voice.event(f"{number} " + 50 * "x")
                voice.status(f"round {number}")
            listening.start()
        listening.join(60)
    events = [message["event"] for message in map(json.loads, told) if "event" in message]
    assert [int(event.split()[0]) for event in events] == list(range(3000))


def test_the_log_keeps_events_with_the_time_and_a_log_that_cannot_be_written_stops_nothing(tmp_path: Path):
    listener = Listener()
    log = tmp_path / "logs" / "worker.log"
    reporter = LoggingReporter(listener, log, FakeClock())
    reporter.event("Starting")
    reporter.status("Round 1")
    assert log.read_text(encoding="utf-8") == "2026-01-01 00:00:00Z  Starting\n"
    log.unlink()
    log.mkdir()
    reporter.event("Going on")
    assert listener.events == ["Starting", "Going on"]
    assert listener.statuses == ["Round 1"]


def test_a_folder_without_a_queue_is_not_made_one_by_a_worker(tmp_path: Path):
    with pytest.raises(QueueMissingError):
        open_worker(settings(tmp_path), Listener(), StopSignal())
    assert records(tmp_path) == []


def test_syncthing_is_told_not_to_carry_what_is_being_written_and_a_person_s_own_list_stays(tmp_path: Path):
    workspace, files = Workspace(tmp_path), DiskFiles()
    keep_private(files, workspace)
    assert not (tmp_path / ".stignore").exists()
    (tmp_path / ".stfolder").mkdir()
    keep_private(files, workspace)
    assert (tmp_path / ".stignore").read_bytes() == SYNCTHING_IGNORES
    (tmp_path / ".stignore").write_bytes(b"*.mov\n")
    keep_private(files, workspace)
    assert (tmp_path / ".stignore").read_bytes() == b"*.mov\n"


def test_an_opened_worker_has_joined_its_queue_and_knows_what_its_machine_offers(tmp_path: Path):
    WorkDistributor(tmp_path).enqueue([make_item("federated", FederatedConfig())])
    worker = open_worker(settings(tmp_path), Listener(), StopSignal())
    assert {"cpu", "machine:Mac"} <= worker.queue.capabilities
    worker.queue.leave("test")
    assert [type(record) for record in records(tmp_path)] == [Hello, Bye]
