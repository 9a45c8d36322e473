"""The one place that imports torchvision, so that it also works beside a torch without CUDA.

PyPI's Linux wheel of torchvision is linked against CUDA. Beside a CPU-only torch its C++ operators cannot load, and its
import then dies on "operator torchvision::nms does not exist". Data sets, transforms and models use none of those
operators: declaring the two schemas that the import looks up is enough. Everything that needs torchvision imports it
from here: ``from fedspec.data.torchvision_compat import torchvision``.
"""

from __future__ import annotations

from types import ModuleType

from torch import library

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
# A Library undeclares its schemas when it is collected.
_declared: library.Library | None = None


def _import() -> ModuleType:
    global _declared
    try:
        import torchvision
    except RuntimeError as error:
        if "operator torchvision::" not in str(error):
            raise
        _declared = library.Library("torchvision", "DEF")
        for schema in _SCHEMAS:
            _declared.define(schema)
        import torchvision
    module: ModuleType = torchvision
    return module


torchvision = _import()
