"""One face for notebooks: ``import fanin``, and everything is a name away.

    fanin.variance(depth=30)                    a stack, simulated, exact theory beside it
    fanin.predict(model, inputs)                your own network, layer by layer, before it is trained
    fanin.compare(prediction, measurement)      that, beside what fanin.measure(model, batch) reads
    fanin.audit(model, inputs)                  is it drawn well, and which line mends it?
    fanin.run_study(initializers=("he",))       networks trained, their records kept
    fanin.figures.variance_figure(table)        a table as a picture

A question takes its spec, or the spec's fields as keywords.  The names are those of the doors
``theory``, ``theory.predict``, ``theory.audit`` and ``empirical``, beside ``figures``.  Nothing is
defined here, and nothing heavy is loaded before it is needed.
"""

from typing import Any

import empirical as empirical
import figures as figures
import theory as theory
import theory.audit
import theory.predict

_DOORS = (theory.predict, theory.audit, theory, empirical)  # functions before rooms of the same name

__all__ = sorted({"empirical", "figures", "theory"}.union(*(door.__all__ for door in _DOORS)))


def __getattr__(name: str) -> Any:
    for door in _DOORS:
        if name in door.__all__:
            return getattr(door, name)
    raise AttributeError(f"fanin has no {name!r}: dir(fanin) names all there is")


def __dir__() -> list[str]:
    return __all__
