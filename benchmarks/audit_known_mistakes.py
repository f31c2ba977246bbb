"""Does the audit find the mistakes that shipped, and is it quiet about what only looks like one?

    uv run benchmarks/audit_known_mistakes.py [--draws N [--size PIXELS] NAME…]
    uv run --group zoo benchmarks/audit_known_mistakes.py --zoo [--limit N]

Every case of ``tests/known_mistakes.py`` and ``tests/further_mistakes.py``, as it shipped and as it was
fixed: hits, misses, false alarms.  ``--zoo`` audits networks at their own initialization instead: every
classification network of torchvision, a dozen of timm and a dozen of transformers from configurations.
Whether it runs, how long it takes, how much of it is predicted, how near one network is, each alarm.
``--draws 20 resnet18 GPT2LMHeadModel …`` holds what is predicted from one draw of a network's weights
against the mean over 20 others.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import torchvision
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import further_mistakes  # noqa: E402
import known_mistakes  # noqa: E402
from known_mistakes import Case  # noqa: E402

from theory.audit import Audit, audit  # noqa: E402
from theory.audit.examination import as_in_training  # noqa: E402
from theory.predict import Tape, follow, record, weights_of  # noqa: E402

LISTS = {
    known_mistakes: ("FOUND", "UNSEEN", "LOOKS_WRONG", "CHOICES"),
    further_mistakes: ("FURTHER", "ALSO_FINE"),
}
SIZES = {"inception_v3": 299, "maxvit_t": 224, "vit_h_14": 56}  # what does not run on 64 pixels
TIMM = """resnet26d seresnext26d_32x4d ghostnet_100 mobilenetv3_small_100 convnextv2_atto eca_nfnet_l0
    vit_tiny_patch16_224 deit3_small_patch16_224 mixer_s32_224 resmlp_12_224 xcit_nano_12_p16_224
    poolformer_s12""".split()
TRANSFORMERS = """GPT2LMHeadModel BertForMaskedLM RobertaForMaskedLM DistilBertForMaskedLM
    AlbertForMaskedLM T5ForConditionalGeneration BartForConditionalGeneration LlamaForCausalLM
    MistralForCausalLM
    GPTNeoXForCausalLM OPTForCausalLM Qwen2ForCausalLM""".split()
SMALL = {
    "hidden_size": 256, "num_hidden_layers": 6, "num_attention_heads": 4, "num_key_value_heads": 4,
    "intermediate_size": 1024, "vocab_size": 2000, "d_model": 256, "num_layers": 6, "num_heads": 4,
    "d_kv": 64, "d_ff": 1024, "ffn_dim": 1024, "n_layer": 6, "n_head": 4, "n_embd": 256, "n_layers": 6,
    "n_heads": 4, "dim": 256, "hidden_dim": 1024, "encoder_layers": 6, "decoder_layers": 6,
    "encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 1024,
    "decoder_ffn_dim": 1024, "embedding_size": 128, "word_embed_proj_dim": 256,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 0,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--zoo", action="store_true")
    parser.add_argument("--limit", type=int, help="only the first N networks of the zoo")
    parser.add_argument("--draws", type=int, metavar="N", help="hold networks against a mean over N")
    parser.add_argument("--size", type=int, help="of a torchvision network's images, with --draws")
    parser.add_argument("names", nargs="*", metavar="NAME", help="of a zoo's network, with --draws")
    options = parser.parse_args()
    found: dict[str, Iterable[dict[str, str]]]
    if options.zoo:
        found = {"networks at their own initialization": said(zoo(options.limit))}
    elif options.draws:
        rows = (over_draws(name, options.draws, options.size) for name in options.names)
        found = {f"predicted from one draw, against the mean over {options.draws}": said(rows)}
    else:
        lists = {name: module for module, names in LISTS.items() for name in names}
        found = {name: map(judged, getattr(module, name)) for name, module in lists.items()}
    for title, told in found.items():
        Console(width=160).print(table(title, told))


def said(rows: Iterable[dict[str, str]]) -> Iterator[dict[str, str]]:
    """Each row told as it comes: all take many minutes."""
    for row in rows:
        print(*row.values(), sep="  ", file=sys.stderr, flush=True)
        yield row


def judged(case: Case) -> dict[str, str]:
    """A case as it shipped and, where it was, fixed."""
    start = time.perf_counter()
    torch.manual_seed(0)
    shipped = audit(case.broken(), case.inputs())
    seconds = time.perf_counter() - start
    row = {"where": case.where, "what": case.what, "verdict": shipped.verdict}
    if not case.codes:
        return row | {"result": "quiet" if shipped.verdict == "healthy" else "FALSE ALARM",
                      "said": codes_of(shipped), "seconds": f"{seconds:.1f}"}  # fmt: skip
    missed = known_mistakes.missed(case, shipped)
    row |= {"result": f"MISSED {', '.join(missed)}" if missed else "hit", "said": codes_of(shipped)}
    if case.fixed is not None:
        torch.manual_seed(0)
        mended = audit(case.fixed(), case.inputs())
        left = {one.code for one in mended.findings} & set(case.codes)
        row["fixed"] = f"STILL {', '.join(left)}" if left else f"free, {mended.verdict}"
    return row | {"seconds": f"{seconds:.1f}"}


def codes_of(result: Audit) -> str:
    """Each finding as ``code(severity's first letter)``."""
    return " ".join(
        f"{one.code}({one.severity[0]})" for one in result.findings if one.code != "not-predicted"
    )


def zoo(limit: int | None) -> Iterator[dict[str, str]]:
    """A row for each network."""
    for name, build, inputs in list(networks())[:limit]:
        start = time.perf_counter()
        try:
            with warnings.catch_warnings(action="ignore"):
                torch.manual_seed(0)
                model, x = build(), inputs()
                result = audit(model, x, try_fixes=False)
        except Exception as error:  # a zoo is there to find out
            yield {"network": name, "verdict": f"{type(error).__name__}: {str(error)[:90]}"}
            continue
        yield {
            "network": name,
            "weights": f"{sum(one.numel() for one in model.parameters()) / 1e6:.1f} M",
            "layers": str(len(result.layers)),
            "seconds": f"{time.perf_counter() - start:.1f}",
            "predicted": f"{result.layers['forward_predicted'].notna().mean():.0%}",
            "forward ≤ 10 %": share(result, "forward", 1.1),
            "≤ 30 %": share(result, "forward", 1.3),
            "backward ≤ 50 %": share(result, "backward", 1.5),
            "verdict": result.verdict,
            "said": codes_of(result),
        }


def over_draws(name: str, draws: int, size: int | None) -> dict[str, str]:
    """What is predicted from draw 0 of the weights against draws 1 to N, on the same inputs."""
    known = {"timm": TIMM, "transformers": TRANSFORMERS}
    library = next((of for of, names in known.items() if name in names), None)
    build, inputs_of = OF[library](name) if library else of_torchvision(name, size)
    torch.manual_seed(99)
    inputs = inputs_of()
    theory, measured = pd.DataFrame(), []
    for draw in range(draws + 1):
        torch.manual_seed(draw)
        with warnings.catch_warnings(action="ignore"):
            model = build()
        with as_in_training(model):
            if draw:
                measured.append(moments_of(record(model, inputs, gradients=True, seed=draw)))
            else:
                theory = follow(model, inputs)
    others = np.array(measured)  # (draws, forward and backward, layers)
    row = {"network": name, "layers": str(len(theory))}
    for index, (way, off) in enumerate((("forward", 0.15), ("backward", 0.5))):
        expected = theory[f"{way}_predicted"]
        near = np.abs(others[:, index].mean(0) - expected) <= off * expected
        row[f"{way} within {off:.0%}"] = f"{near.mean():.0%}"
    low, high = (theory[f"forward_band_{end}"].to_numpy() for end in ("low", "high"))
    inside = ((others[:, 0] >= low) & (others[:, 0] <= high))[:, ~np.isnan(low)]
    return row | {"draws in the band": f"{inside.mean():.0%}"}


def moments_of(tape: Tape) -> tuple[list[float], list[float]]:
    """The second moments at the outputs of the weight layers, of values and of gradients."""
    made = [
        tape.values[operation.outputs[0]]
        for operation in tape.operations
        for _ in weights_of(operation)
    ]
    return [one.second_moment for one in made], [one.gradient_second_moment for one in made]


def networks() -> Iterator[tuple[str, Callable[[], torch.nn.Module], Callable[[], Any]]]:
    """Name, network and inputs; ten classes, or two thousand words; the largest last."""
    largest_last = sorted(torchvision.models.list_models(torchvision.models), key=size_of)
    for library, names in (
        ("timm", TIMM), ("transformers", TRANSFORMERS), ("torchvision", largest_last)
    ):  # fmt: skip
        for name in names:
            yield (f"{library} {name}", *OF[library](name))


def of_timm(name: str) -> tuple[Callable[[], torch.nn.Module], Callable[[], Any]]:
    """Network and inputs; ten classes."""
    import timm  # of the group zoo

    fixed = name.startswith(("vit", "deit", "mixer", "resmlp", "xcit"))
    more = {"img_size": 64} if fixed else {}
    return (
        lambda: timm.create_model(name, num_classes=10, **more),
        lambda: torch.randn(4, 3, 64, 64),
    )


def of_transformers(name: str) -> tuple[Callable[[], torch.nn.Module], Callable[[], Any]]:
    """A small network from its configuration, and inputs; two thousand words."""
    import transformers  # of the group zoo

    kind = getattr(transformers, name)
    known = kind.config_class()
    config = kind.config_class(**{key: SMALL[key] for key in SMALL if hasattr(known, key)})
    asked = ("input_ids", *["decoder_input_ids"] * bool(config.is_encoder_decoder))
    return (
        lambda: kind(config),
        lambda: {key: torch.randint(3, 2000, (4, 32)) for key in asked},
    )


def of_torchvision(
    name: str, size: int | None = None
) -> tuple[Callable[[], torch.nn.Module], Callable[[], Any]]:
    """Network and inputs; ten classes; images of ``size``."""
    size = size or SIZES.get(name, 64)
    more: dict[str, Any] = {"image_size": size} if name.startswith("vit") else {}
    if name in ("googlenet", "inception_v3"):
        more["init_weights"] = True
    return (
        lambda: torchvision.models.get_model(name, weights=None, num_classes=10, **more),
        lambda: torch.randn(4, 3, size, size),
    )


OF = {"timm": of_timm, "transformers": of_transformers, "torchvision": of_torchvision}


def size_of(name: str) -> int:
    """Weights of a network of torchvision: a table's entry, nothing is loaded."""
    size: int = torchvision.models.get_model_weights(name).DEFAULT.meta["num_params"]
    return size


def share(result: Audit, way: str, factor: float) -> str:
    """Of all layers, those of this one network that are within the factor."""
    predicted, measured = (result.layers[f"{way}_{what}"] for what in ("predicted", "measured"))
    off = np.log(predicted / measured).abs().where(predicted != measured, 0.0)  # both may be 0
    return f"{(off <= np.log(factor)).mean():.0%}"


def table(title: str, rows: Any) -> Table:
    rows = list(rows)
    columns: Sequence[str] = list(dict.fromkeys(key for row in rows for key in row))
    result = Table(*columns, title=title)
    for row in rows:
        result.add_row(*(row.get(column, "") for column in columns))
    return result


if __name__ == "__main__":
    main()
