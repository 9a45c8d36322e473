import subprocess
import sys


def test_torchvision_imports_beside_any_torch() -> None:
    code = (
        "from fedspec.data.torchvision_compat import torchvision\n"
        "import torch\n"
        "assert torchvision.transforms.functional.hflip(torch.tensor([[1, 2]])).tolist() == [[2, 1]]\n"
        "assert torchvision.datasets.MNIST and torchvision.models.resnet18"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)
