"""Someone's network and an input for it, from the words of a command line.

``MODULE:FACTORY`` is imported as Python imports it, ``FILE.py:FACTORY`` from its file, with the file's
folder on the path.  That runs what stands in it; nothing else of it is run but the factory.  Whatever
goes wrong in someone else's code becomes one line that says so.
"""

from __future__ import annotations

import contextlib
import enum
import importlib
import importlib.util
import io
import json
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.parameter import is_lazy

from theory.errors import RequestError, check_whole, unknown_name
from theory.predict.tape import as_arguments
from theory.probe import modes_kept
from theory.randomness import generator

TARGET = "write MODULE:FACTORY or FILE.py:FACTORY, for instance torchvision.models:resnet18"
LARGEST = 100_000_000  # numbers in one input
GPU_WORDS = (
    "nvidia driver",
    "not compiled with cuda",
    "no cuda gpus",
    "cuda error",
    "deserialize object on a cuda",
)


def load(target: str, arguments: str | None = None, *, seed: int = 0) -> nn.Module:
    """The network that ``target`` makes, called with the JSON object ``arguments`` as keywords.

    A target that is a network already is taken as it is.  The same ``seed`` makes the same network, and
    the global random state is left as it was.  Raises ``RequestError``.
    """
    place, colon, name = target.rpartition(":")
    if not (place and colon and name):
        raise RequestError(f"{target!r} names no factory: {TARGET}")
    keywords = keywords_of(arguments)
    with guarded(f"importing {place}"), _seeded(seed):
        module = _file(Path(place)) if place.endswith(".py") else _module(place)
    factory: Any = module
    for part in name.split("."):
        if not hasattr(factory, part):
            raise unknown_name(f"factory in {place}", name, factories(module))
        factory = getattr(factory, part)
    if isinstance(factory, nn.Module):
        if keywords:
            raise RequestError(f"{target} is a network already and takes no --arguments")
        return factory
    if not callable(factory):
        raise RequestError(
            f"{target} is of type {type(factory).__name__}, not a callable that makes a network"
        )
    with guarded(f"calling {target}"), _seeded(seed):
        model = factory(**keywords)
    if not isinstance(model, nn.Module):
        raise RequestError(f"{target} made an object of type {type(model).__name__}, not an nn.Module")
    return model


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    with torch.random.fork_rng([]):
        torch.random.set_rng_state(generator(seed, "someone's network").get_state())
        yield


def keywords_of(arguments: str | None) -> dict[str, Any]:
    """The keywords in a JSON object."""
    try:
        keywords = json.loads(arguments or "{}")
    except json.JSONDecodeError as error:
        raise RequestError(
            f"--arguments is not JSON ({error}): write an object like '{{\"depth\": 12}}'"
        ) from None
    if not isinstance(keywords, dict):
        raise RequestError("--arguments must be a JSON object like '{\"depth\": 12}'")
    return keywords


def factories(module: ModuleType) -> list[str]:
    """Public names of ``module``, or of the package that it is, that may make a network."""
    return [
        name for name, value in vars(module).items()
        if not name.startswith("_") and (isinstance(value, nn.Module) or callable(value))
        and getattr(value, "__module__", module.__name__).startswith(module.__name__)
        and not isinstance(value, enum.EnumMeta)
    ] or ["none: it defines no callable"]  # fmt: skip


@contextlib.contextmanager
def guarded(what: str) -> Iterator[None]:
    """Run someone else's code: what it prints is dropped, what it raises becomes one line.

    A name that it wants to look up on the network is refused: nothing is downloaded.
    """
    look_up = socket.getaddrinfo

    def refuse(host: object, *rest: object, **more: object) -> Any:
        raise RequestError(
            f"{what} wants to download something (from {_text(host)}): ask for random weights, as with "
            "weights=None, or fetch it before"
        )

    socket.getaddrinfo = refuse
    try:
        with (
            io.StringIO() as said,
            contextlib.redirect_stdout(said),
            contextlib.redirect_stderr(said),
        ):
            yield
    except (Exception, SystemExit) as error:
        known = error
        while known.__context__ is not None and not isinstance(known, RequestError):
            known = known.__context__  # type: ignore[assignment]
        if isinstance(known, RequestError):
            raise known from None
        raise RequestError(_why(what, error)) from error
    finally:
        socket.getaddrinfo = look_up


def _why(what: str, error: BaseException) -> str:
    lines = str(error).strip().splitlines() or [""]
    text = f"{what} failed: {type(error).__name__}: {lines[0][:300]}"
    if any(words in str(error).lower() for words in GPU_WORDS):
        return f"{text}; it needs a GPU: let it make its network on the CPU"
    if isinstance(error, TypeError) and "argument" in str(error):
        return f"{text}; give its keywords with --arguments JSON"
    return text


def _text(host: object) -> str:
    return host.decode() if isinstance(host, bytes) else str(host)


def _file(path: Path) -> ModuleType:
    if not path.is_file():
        raise RequestError(f"there is no file {path}: {TARGET}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with _on_path(path.parent):
        before = sys.modules.get(path.stem)
        sys.modules[path.stem] = module  # dataclasses and pickles look here
        try:
            spec.loader.exec_module(module)
        except BaseException:
            sys.modules.pop(path.stem)
            if before is not None:
                sys.modules[path.stem] = before
            raise
    return module


def _module(name: str) -> ModuleType:
    with _on_path(Path()):
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name and name.startswith(error.name):
                raise RequestError(f"there is no module {error.name!r} here: {TARGET}") from None
            raise


@contextlib.contextmanager
def _on_path(folder: Path) -> Iterator[None]:
    entry = str(folder.resolve())
    sys.path.insert(0, entry)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(entry)


DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def placed(model: nn.Module, device: torch.device, dtype: str | None = None) -> nn.Module:
    """``model`` on ``device``, cast to the floating-point type called ``dtype`` if one is given."""
    kind = None if dtype is None else getattr(torch, dtype, None)
    if dtype is not None and kind not in DTYPES:
        raise RequestError(f"unknown dtype {dtype!r}: write float32, float64, bfloat16 or float16")
    with guarded("moving the network"):
        return model.to(device=device, dtype=kind)


def with_weights(model: nn.Module, inputs: Any, *, seed: int = 0) -> nn.Module:
    """``model``; if modules of it are lazy, they get their weights by one run on ``inputs``."""
    if any(map(is_lazy, (*model.parameters(), *model.buffers()))):
        positional, keywords = as_arguments(inputs)
        with guarded("running the network"), _seeded(seed), modes_kept(model), torch.no_grad():
            model.eval()(*positional, **keywords)
    return model


# ------------------------------------------------------------------------------------- inputs


def shape_of(text: str) -> tuple[int, ...]:
    """The sizes in ``8,3,32,32``, or in ``8x3x32x32``; the first counts the inputs."""
    parts = [part for part in text.replace("x", ",").split(",") if part.strip()]
    try:
        sizes = tuple(check_whole("a size of the input", int(part), 1, LARGEST) for part in parts)
    except ValueError as error:
        if isinstance(error, RequestError):
            raise
        raise RequestError(f"the input {text!r} is no list of sizes: write 8,3,32,32") from None
    if not sizes:
        raise RequestError("an input needs sizes, for instance 8,3,32,32")
    if torch.Size(sizes).numel() > LARGEST:
        raise RequestError(
            f"an input of {torch.Size(sizes).numel():,} numbers is too large for an audit"
        )
    return sizes


def example_inputs(
    model: nn.Module,
    floats: Sequence[tuple[int, ...]] = (),
    tokens: Sequence[tuple[int, ...]] = (),
    *,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> tuple[torch.Tensor, ...]:
    """Standard normal numbers of the shapes ``floats``, then tokens, uniform over the vocabulary.

    The vocabulary is the largest ``nn.Embedding``.  With neither, the first weight layer says what
    it takes.
    """
    if not floats and not tokens:
        floats, tokens = guessed(model)
    parameters = [one for one in model.parameters() if one.is_floating_point()]
    dtype = parameters[0].dtype if parameters else torch.float32
    drawn = generator(seed, "audit input")
    made = [torch.randn(shape, generator=drawn).to(dtype) for shape in floats]
    if tokens:
        tables = [module for module in model.modules() if isinstance(module, nn.Embedding)]
        if not tables:
            raise RequestError("the network has no nn.Embedding for --tokens: give it --input")
        words = max(table.num_embeddings for table in tables)
        made += [torch.randint(words, shape, generator=drawn) for shape in tokens]
    return tuple(one.to(device) for one in made)


Sizes = list[tuple[int, ...]]


def guessed(model: nn.Module) -> tuple[Sizes, Sizes]:
    """Shapes that the first layer takes: (floats, tokens)."""
    takes: tuple[tuple[Any, Callable[[Any], tuple[Sizes, Sizes]]], ...] = (
        (nn.Embedding, lambda layer: ([], [(4, 32)])),
        (nn.Conv1d, lambda layer: ([(8, layer.in_channels, 64)], [])),
        (nn.Conv2d, lambda layer: ([(8, layer.in_channels, 64, 64)], [])),
        (nn.Conv3d, lambda layer: ([(4, layer.in_channels, 16, 32, 32)], [])),
        (nn.Linear, lambda layer: ([(64, layer.in_features)], [])),
        (nn.RNNBase, lambda layer: ([_sequence(layer)], [])),
    )
    for module in model.modules():
        if isinstance(module, LazyModuleMixin):  # it takes whatever comes
            break
        for kind, shapes in takes:
            if isinstance(module, kind):
                return shapes(module)
    raise RequestError("say what goes into the network: --input 8,3,32,32, or --tokens 4,128")


def _sequence(layer: Any) -> tuple[int, ...]:
    return (8, 32, layer.input_size) if layer.batch_first else (32, 8, layer.input_size)
