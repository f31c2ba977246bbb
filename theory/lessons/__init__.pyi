from . import (
    derivation as derivation,
    paper as paper,
    torch_gains as torch_gains,
)
from .derivation import (
    Line as Line,
    lines as lines,
)
from .paper import (
    Statement as Statement,
    he_std as he_std,
    vgg_gradient as vgg_gradient,
)
from .torch_gains import (
    gains as gains,
    torch_gain as torch_gain,
)
