"""A question asked in one call: ``variance(depth=30)`` for ``variance(VarianceSpec(depth=30))``."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, cast, overload

from theory.errors import RequestError, unknown_name

Spec = TypeVar("Spec", contravariant=True)
Rest = ParamSpec("Rest")
Answer = TypeVar("Answer", covariant=True)


class Question(Protocol[Spec, Rest, Answer]):
    """A function of a spec, or of the spec's fields as keywords."""

    @overload
    def __call__(self, spec: Spec, /, *rest: Rest.args, **options: Rest.kwargs) -> Answer: ...

    @overload
    def __call__(self, **fields_and_options: Any) -> Answer: ...


def takes_fields_of(
    kind: type[Spec],
) -> Callable[[Callable[Concatenate[Spec, Rest], Answer]], Question[Spec, Rest, Answer]]:
    """Let a function of a ``kind`` be called with the fields of the ``kind`` as keywords, too.

    The function's other arguments then go by keyword as well, unless a field has the same name.  A name
    that is neither is refused with a ``RequestError`` that names the nearest one, and so is what is
    no spec in its place.  Where a field takes several names, one may come by itself.

    >>> @dataclasses.dataclass(frozen=True)
    ... class Sum:
    ...     first: int = 0
    ...     second: int = 0
    >>> @takes_fields_of(Sum)
    ... def add(spec):
    ...     return spec.first + spec.second
    >>> add(Sum(1, 2)), add(first=1, second=2)
    (3, 3)
    """
    known = [field for field in dataclasses.fields(cast(Any, kind)) if field.init]
    fields = [field.name for field in known]
    several = {field.name for field in known if isinstance(field.default, tuple)}

    def decorate(
        function: Callable[Concatenate[Spec, Rest], Answer],
    ) -> Question[Spec, Rest, Answer]:
        ask: Callable[..., Answer] = function
        options = list(inspect.signature(function).parameters)[1:]

        @functools.wraps(function)
        def call(*given: Any, **keywords: Any) -> Answer:
            if given and not dataclasses.is_dataclass(given[0]):  # a spec, of another kind maybe
                asked = f"a {kind.__name__}, or its fields as keywords ({fields[0]}=…)"
                raise RequestError(f"{function.__name__} takes {asked}, not {given[0]!r}")
            if given:
                return ask(*given, **keywords)
            own = {
                name: keywords.pop(name) for name in options if name in keywords and name not in fields
            }
            for name in keywords:
                if name not in fields:
                    raise unknown_name(f"keyword of {function.__name__}", name, [*fields, *options])
            for name in several & set(keywords):
                if isinstance(keywords[name], str):  # "he" is one law, and not the laws "h" and "e"
                    keywords[name] = (keywords[name],)
            return ask(kind(**keywords), **own)

        return cast("Question[Spec, Rest, Answer]", call)

    return decorate
