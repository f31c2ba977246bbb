from . import (
    progress as progress,
    study_tables as study_tables,
    statistics as statistics,
    claims as claims,
    gallery as gallery,
    protocol_agreement as protocol_agreement,
)
from .progress import (
    announcement as announcement,
    pace as pace,
    position as position,
    warning as warning,
)
from .study_tables import (
    accuracy_table as accuracy_table,
    plan_table as plan_table,
    presets_table as presets_table,
)
from .statistics import statistics_tables as statistics_tables
from .claims import (
    claims_table as claims_table,
    measures_table as measures_table,
)
from .gallery import Gallery as Gallery, index_table as index_table, published_table as published_table
