from . import (
    build as build,
    facts as facts,
    tables as tables,
    model as model,
    environment as environment,
    html as html,
    markdown as markdown,
    tex as tex,
    notebook as notebook,
    output as output,
)
from .build import Report as Report
from .model import Document as Document
from .notebook import shown as shown
from .output import Written as Written, compile_pdf as compile_pdf, compiler as compiler, write as write
