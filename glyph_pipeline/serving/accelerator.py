"""Which accelerator this machine has: NVIDIA, ROCm or none. Knows device nodes and vendor tools, nothing of vLLM."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

AcceleratorKind = Literal["nvidia", "rocm", "cpu"]

# Without persistence mode nvidia-smi wakes every GPU first, which takes seconds on large machines.
_NVIDIA_SMI_SECONDS = 20.0


@dataclass(frozen=True)
class Accelerator:
    """What was found: the kind, and in ``detail`` what told us so (for people, not for parsing)."""

    kind: AcceleratorKind
    detail: str


def detect_accelerator(*, root: Path = Path("/")) -> Accelerator:
    """Look for a GPU: NVIDIA first, then ROCm, else the CPU.

    ``root`` is the folder that holds ``dev`` and ``sys``; only tests change it. Never raises.
    """
    if detail := _nvidia(root):
        return Accelerator("nvidia", detail)
    if detail := _rocm(root):
        return Accelerator("rocm", detail)
    return Accelerator("cpu", "no NVIDIA or ROCm device found")


def _nvidia(root: Path) -> str | None:
    if tool := shutil.which("nvidia-smi"):
        try:
            listing = subprocess.run(
                [tool, "-L"], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_NVIDIA_SMI_SECONDS, check=False
            )
        except (OSError, subprocess.TimeoutExpired):
            pass
        else:
            # `nvidia-smi -L` ends with 0 and prints nothing useful where the driver is there but no GPU is.
            gpus = [line.strip() for line in listing.stdout.splitlines() if line.startswith("GPU ")]
            if listing.returncode == 0 and gpus:
                # "GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-...)": the serial number is nobody's business
                return f"{len(gpus)} x {gpus[0].partition(': ')[2].partition(' (UUID')[0]}"
    return "/dev/nvidia0" if (root / "dev/nvidia0").exists() else None


def _rocm(root: Path) -> str | None:
    if not (root / "dev/kfd").exists():
        return None
    for tool in ("rocm-smi", "amd-smi"):
        if shutil.which(tool):
            return f"/dev/kfd and {tool}"
    return "/dev/kfd and /sys/class/kfd" if (root / "sys/class/kfd").exists() else None
