"""Simulated time: it goes on, or that is told."""

from __future__ import annotations

from fedspec.simulation.world import Process, World


def test_a_loop_in_which_no_time_passes_ends_the_schedule_and_is_a_broken_promise() -> None:
    world = World(0)

    def go_round(process: Process) -> None:
        process.sleep(5.0)
        while True:
            world.step(process)

    world.begin(Process(world, "m0p1", go_round), 0.0)
    world.run(60.0)
    assert world.stuck
    assert world.breaches == ["I1: time stands still at 5 s, where m0p1 goes round in circles"]


def test_processes_that_hand_the_baton_to_and_fro_at_one_moment_end_the_schedule_too() -> None:
    world = World(0)

    def wait(process: Process) -> None:
        while True:
            process.sleep(0.0)

    for name in ("m0p1", "m1p1"):
        world.begin(Process(world, name, wait), 0.0)
    world.run(60.0)
    assert world.stuck
