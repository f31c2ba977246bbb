from . import (
    facts as facts,
    tables as tables,
    source as source,
    report as report,
    output as output,
    results as results,
)
from .report import (
    Report as Report,
)
from .output import (
    Written as Written,
    compile_pdf as compile_pdf,
    compiler as compiler,
    write as write,
)
