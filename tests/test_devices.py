import subprocess
import sys

import pytest
import torch

from fedspec import devices
from fedspec.errors import CapabilityError, UsageError


def test_importing_the_module_does_not_import_torch() -> None:
    code = "import sys, fedspec.devices; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_machine_has_a_cpu() -> None:
    assert "cpu" in devices.capabilities()
    assert devices.capabilities() <= set(devices.KINDS)
    assert devices.resolve("cpu") == torch.device("cpu")


@pytest.mark.parametrize("have", [{"cpu"}, {"cpu", "mps"}, {"cpu", "cuda"}])
def test_any_takes_the_best_device_that_there_is(have: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "capabilities", lambda: frozenset(have))
    assert devices.resolve("any").type == next(kind for kind in devices.KINDS if kind in have)


@pytest.mark.parametrize("missing", ["cuda", "mps"])
def test_a_missing_device_is_refused_with_a_remedy(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "capabilities", lambda: frozenset({"cpu"}))
    with pytest.raises(CapabilityError, match=f"no {missing} device") as caught:
        devices.resolve(missing)
    assert "any" in caught.value.fix


def test_an_unknown_device_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="tpu"):
        devices.resolve("tpu")


def test_each_device_of_this_machine_is_described_with_its_memory() -> None:
    for kind in devices.capabilities():
        memory = devices.memory(torch.device(kind))
        assert 0 <= memory.free_bytes <= memory.total_bytes
        assert f"{memory.total_bytes / 2**30:.0f} GiB" in devices.describe(torch.device(kind))
    assert "GiB" in devices.describe()
