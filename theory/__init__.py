"""What should happen to a signal, given how the weights are drawn.

In reading order: what is drawn (``initializers``) and what it passes through (``activations``); what
can be asked (``specs``); then six rooms. ``law`` has the answers on paper, ``draw`` by simulation,
``predict`` for a network that someone hands in, ``audit`` says whether that is drawn well, and
``lessons`` goes through the derivation and the paper line by line, and ``exercises`` checks answers.

A name is loaded when it is first used, so that names and specs are checked in milliseconds. Inside
the house a module imports from the module that defines a name, never from a door; nothing in here
imports the other packages of the project.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
