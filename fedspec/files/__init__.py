"""The files port: durable operations on a folder that others may share.

`port` is the contract, `disk` a disk or a mounted share, `fenced` one that others write to as well, `memory` the fake. Below
`disk` lies a port of its own: `kernel` is the system's calls, `powercut` their fake, a disk that loses power. What the files
mean is for others to know.
"""

from fedspec.files.disk import DiskFiles
from fedspec.files.evicted import evicted
from fedspec.files.fenced import FencedFiles
from fedspec.files.memory import Crash, MemoryDisk, MemoryFiles
from fedspec.files.port import ORPHANED_S, Files

__all__ = ["ORPHANED_S", "Crash", "DiskFiles", "FencedFiles", "Files", "MemoryDisk", "MemoryFiles", "evicted"]
