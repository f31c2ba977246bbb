from . import (
    statistics as statistics,
    evidence as evidence,
    truth as truth,
    claim_theory as claim_theory,
    claims as claims,
    conditions as conditions,
    protocol_agreement as protocol_agreement,
    selection as selection,
    beyond as beyond,
    calibration as calibration,
)
from .statistics import (
    cell_statistics as cell_statistics,
    holm as holm,
    pair_statistics as pair_statistics,
    paired as paired,
    seeds_needed as seeds_needed,
    unpaired as unpaired,
)
from .evidence import Cells as Cells, Evidence as Evidence, QUANTITIES as QUANTITIES
from .truth import Judgment as Judgment, Part as Part, Term as Term, judge as judge
from .claim_theory import foretold as foretold, foretold_sizes as foretold_sizes
from .claims import Claim as Claim, judge_claims as judge_claims, missing_commands as missing_commands
from .conditions import Condition as Condition, judge_conditions as judge_conditions
from .protocol_agreement import protocol_cells as protocol_cells, protocol_pairs as protocol_pairs
from .selection import Selection as Selection, select as select
from .beyond import (
    arms_of as arms_of,
    contrasts as contrasts,
    foretold_arms as foretold_arms,
    judge_beyond as judge_beyond,
)
