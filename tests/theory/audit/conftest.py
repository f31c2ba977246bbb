"""What the tests of the audit share."""

import pytest
import torch


@pytest.fixture
def one_seed():
    """Weights that torch draws by itself are the same in every run."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield
