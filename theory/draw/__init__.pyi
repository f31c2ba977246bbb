from . import (
    stacks as stacks,
    convolution_stacks as convolution_stacks,
    batch_norm_stacks as batch_norm_stacks,
    sampler as sampler,
    moments as moments,
    monte_carlo as monte_carlo,
    curve_theory as curve_theory,
    simulate as simulate,
    convolution_simulate as convolution_simulate,
    correlation as correlation,
)
from .stacks import StackSpec as StackSpec, build_stack as build_stack
from .convolution_stacks import ConvEnsemble as ConvEnsemble
from .batch_norm_stacks import NormStack as NormStack
from .sampler import active_units as active_units
from .moments import LogMoments as LogMoments
from .monte_carlo import blocks as blocks, groups as groups
from .curve_theory import backward_theory as backward_theory, forward_theory as forward_theory
from .simulate import growth as growth, variance as variance
from .convolution_simulate import border_table as border_table
from .correlation import first_order as first_order
