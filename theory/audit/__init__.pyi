from . import (
    recognition as recognition,
    network as network,
    stuck as stuck,
    findings as findings,
    laws as laws,
    effects as effects,
    causes as causes,
    tensors as tensors,
    fixes as fixes,
    examination as examination,
    initialization as initialization,
    loading as loading,
)
from .recognition import Recognized as Recognized, recognize as recognize
from .findings import Finding as Finding, Loss as Loss
from .examination import Audit as Audit, assert_healthy as assert_healthy, audit as audit
from .initialization import Initialized as Initialized, initialize as initialize
from .loading import (
    example_inputs as example_inputs,
    load as load,
    placed as placed,
    shape_of as shape_of,
    with_weights as with_weights,
)
