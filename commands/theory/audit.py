"""``audit``: is this network drawn well, and if not, which line mends it?"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterator
from functools import partial
from typing import Any

from rich.console import RenderableType

import figures
import theory.audit
from commands.answer import Answer, Session
from theory.errors import RequestError, check_whole

PURPOSE = "Are the weights of your own network drawn well, and if not, which line mends it?"
EXAMPLES = (
    "audit torchvision.models:resnet18 --input 8,3,224,224",
    "audit net.py:Net --arguments '{\"depth\": 12}' --tokens 4,128 --classes 1000",
    "audit net.py:Net --input 64,784 --fail-on warning --json",
)
# What --fail-on is set off by.
ALARMS = {"error": ("error",), "warning": ("error", "warning"), "never": ()}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_network(parser)
    parser.add_argument(
        "--draws", type=int, default=0, metavar="N", help="networks drawn for the band (default 0)"
    )
    parser.add_argument(
        "--fail-on", choices=list(ALARMS), default="never", help="exit 3 at such a finding (never)"
    )


def add_network(parser: argparse.ArgumentParser) -> None:
    """A network and what goes into it; the CPU unless another device is asked for."""
    parser.add_argument(
        "target",
        metavar="MODULE:FACTORY",
        help="or FILE.py:FACTORY: a callable that makes an nn.Module, or one; importing it runs its "
        "module, and nothing else of it is run but the factory",
    )
    parser.add_argument(
        "--input", nargs="+", metavar="N", help="sizes of an input of normal numbers: 8,3,32,32"
    )
    parser.add_argument("--tokens", nargs="+", metavar="N", help="sizes of an input of tokens: 4,128")
    parser.add_argument("--dtype", metavar="NAME", help="cast the network: float32, bfloat16, …")
    parser.add_argument("--arguments", metavar="JSON", help="keywords for FACTORY, a JSON object")
    parser.add_argument(
        "--classes", type=int, metavar="K", help="of the logits that it returns; 0 if it returns none"
    )
    parser.set_defaults(device="cpu")


def network(arguments: argparse.Namespace) -> tuple[Any, tuple[Any, ...]]:
    """The network that is asked for, and its inputs, on their device."""
    shapes = {
        name: [theory.audit.shape_of(",".join(getattr(arguments, name)))]
        for name in ("input", "tokens")
        if getattr(arguments, name)
    }
    if arguments.classes:
        check_whole("--classes", arguments.classes, 2, 1_000_000)
    if len(shapes) > 1:
        raise RequestError("give --input or --tokens, not both")
    device = theory.resolve_device(arguments.device)
    model = theory.audit.load(arguments.target, arguments.arguments, seed=arguments.seed)
    model = theory.audit.placed(model, device, arguments.dtype)
    inputs = theory.audit.example_inputs(
        model,
        shapes.get("input", ()),
        shapes.get("tokens", ()),
        seed=arguments.seed,
        device=device,
    )
    return theory.audit.with_weights(model, inputs, seed=arguments.seed), inputs


@contextlib.contextmanager
def apart() -> Iterator[None]:
    """Run the network: what it prints goes to stderr, and where it ends the program it is an error."""
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    except SystemExit as error:
        raise RequestError(f"the model ended the program when it was run: {error}") from None


def spec_of(arguments: argparse.Namespace, *more: str) -> dict[str, Any]:
    names = ("target", "input", "tokens", "dtype", "arguments", "classes", "seed", *more)
    spec = {name: getattr(arguments, name) for name in names}
    for name in ("input", "tokens"):
        spec[name] = spec[name] and list(theory.audit.shape_of(",".join(spec[name])))
    return spec


def findings(result: theory.audit.Audit) -> list[RenderableType]:
    """The table of findings, and the lines that mend them where there are any."""
    lines = figures.fixes_text(result)
    return [figures.findings_table(result), *([lines] if lines else [])]


def run(arguments: argparse.Namespace, session: Session) -> Answer:
    if arguments.draws != 0:
        check_whole("--draws", arguments.draws, 2, 1000)
    model, inputs = network(arguments)
    session.prepare_out()
    with apart():
        result = theory.audit.audit(
            model, inputs, arguments.classes, draws=arguments.draws, seed=arguments.seed
        )
    worst = result.worst()
    return Answer(
        spec=spec_of(arguments, "draws", "fail_on"),
        document=result.as_dict(),
        show=[figures.layers_table(result), *findings(result)],
        figures={"audit": partial(figures.audit_figure, result)},
        alarm=worst in ALARMS[arguments.fail_on],
    )
