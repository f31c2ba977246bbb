"""How the adversary runs hypothesis: the same examples everywhere, and as many as a test asks for."""

from functools import partial

from hypothesis import HealthCheck, settings

often = partial(
    settings,
    deadline=None,
    derandomize=True,
    database=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
