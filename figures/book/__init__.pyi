from . import (
    notebooks as notebooks,
    lessons as lessons,
    slides as slides,
    animation as animation,
)
from .notebooks import run as run
from .lessons import (
    Lesson as Lesson,
    lesson as lesson,
    lessons_table as lessons_table,
    table_of_contents as table_of_contents,
)
from .slides import slides_page as slides_page
from .animation import Animation as Animation, signal_animation as signal_animation
