"""What the Monte Carlo of ``cli.py variance`` costs: a student's script, ours, and the floor.

    uv run benchmarks/variance_simulation.py [--draws 100] [--law-draws 1000000] [--rounds 3]

    a  script   per draw and curve: build nn.Sequential, initialize it, hooks that call .item()
    b  ours     theory.draw.variance.variance on the same curves (he, xavier, normal × relu, prelu)
    c  floor    the same normals and the same matrix products as b, and nothing else
    law         the exact sampler, per draw, at width 1024 (one input, one curve) against modules

All on the CPU with the same threads; a, b and c alternate and the best of the rounds counts, since
whatever else the machine does only adds time.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from timeit import repeat, timeit
from typing import Any

import torch
from torch import nn

from theory.devices import environment
from theory.draw.dense import BLOCK_WEIGHTS
from theory.draw.variance import variance
from theory.law import finite_width, stacks
from theory.randomness import generator
from theory.specs import VarianceSpec

DEPTH, WIDTH = 30, 512


def main() -> None:
    options = parse()
    spec = VarianceSpec(depth=DEPTH, width=WIDTH, draws=options.draws, device="cpu")
    contenders = {"a": lambda: script(options.draws), "b": lambda: ours(spec), "c": lambda: floor(spec)}
    best = dict.fromkeys(contenders, math.inf)
    for _ in range(options.rounds):
        for name, work in contenders.items():
            best[name] = min(best[name], timeit(work, number=1))
    tell_simulation(best, options.draws, options.rounds)
    tell_law(options.law_draws)


def script(draws: int) -> None:
    """The loop that one writes first; its results are those of ours."""
    laws: dict[str, Callable[[torch.Tensor], object]] = {
        "he": lambda w: nn.init.kaiming_normal_(w, nonlinearity="relu"),
        "xavier": nn.init.xavier_normal_,
        "normal": nn.init.normal_,
    }
    found: dict[tuple[str, str, int], list[float]] = {}
    for activation in ("relu", "prelu"):
        for name, law in laws.items():
            for _ in range(draws):
                layers: list[nn.Module] = []
                for layer in range(DEPTH):
                    linear = nn.Linear(WIDTH, WIDTH, bias=False)
                    law(linear.weight)
                    row = found.setdefault((activation, name, layer), [])
                    linear.register_forward_hook(
                        lambda module, inputs, output, row=row: row.append(
                            output.square().mean().item()
                        )
                    )
                    layers += [linear, nn.ReLU() if activation == "relu" else nn.PReLU()]
                network = nn.Sequential(*layers)
                with torch.no_grad():
                    network(torch.randn(1, WIDTH))


def ours(spec: VarianceSpec) -> None:
    """The table that the command prints, theory included: nothing is left from the round before."""
    for cache in (stacks._band, stacks._signal_law, finite_width.log_factor):
        cache.cache_clear()
    variance(spec)


def floor(spec: VarianceSpec) -> None:
    """Normals and products of ``ours``, in its blocks, on its threads."""
    size = max(1, min(spec.draws, BLOCK_WEIGHTS // spec.width**2))
    signal = torch.randn(size, WIDTH, 2, generator=generator(0, "signal"))

    def run(block: int) -> None:
        stream = generator(0, "floor", block)
        draws = min(size, spec.draws - block * size)
        with torch.inference_mode():
            for _ in range(DEPTH):
                weight = torch.empty(draws, WIDTH, WIDTH).normal_(generator=stream)
                torch.bmm(weight, signal[:draws])

    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        list(pool.map(run, range(math.ceil(spec.draws / size))))


def tell_simulation(best: dict[str, float], draws: int, rounds: int) -> None:
    about = environment(torch.device("cpu"))
    print(f"Six curves, {draws} draws of depth {DEPTH}, width {WIDTH}, best of {rounds} rounds")
    print(f"  {about['hardware']}, {about['threads']} threads, torch {about['torch']}")
    a, b, c = best["a"], best["b"], best["c"]
    print(
        f"  a script {a:.2f} s, b ours {b:.2f} s, c floor {c:.2f} s; a/b {a / b:.1f}, b/c {b / c:.2f}"
    )


def tell_law(law_draws: int) -> None:
    """Time per draw of one curve at width 1024, and of a large run of the exact sampler."""
    asked: dict[str, Any] = {"depth": DEPTH, "width": 1024, "device": "cpu"}
    asked |= {"initializers": ("he",), "activations": ("relu",)}

    def seconds(engine: str, draws: int, rounds: int) -> float:
        spec = VarianceSpec(**asked, engine=engine, draws=draws)
        return min(repeat(lambda: variance(spec), number=1, repeat=rounds))

    modules, total = seconds("modules", 40, 3) / 40, seconds("law", law_draws, 1)
    law = total / law_draws
    print(f"One curve at depth {DEPTH}, width 1024, one input")
    print(f"  modules {modules * 1e3:.1f} ms per draw; law {total:.1f} s for {law_draws:,} draws,")
    print(f"  {law * 1e6:.2f} µs per draw: a ratio of {modules / law:,.0f}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--draws", type=int, default=100, help="networks per curve (default 100)")
    parser.add_argument("--law-draws", type=int, default=1_000_000, help="default 1,000,000")
    parser.add_argument("--rounds", type=int, default=3, help="default 3")
    return parser.parse_args()


if __name__ == "__main__":
    main()
