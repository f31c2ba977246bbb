"""What should happen to a signal, given how the weights are drawn.

Nothing here imports the other packages of the project.  Modules import torch only inside the
functions that need it, so that names and specs can be checked in milliseconds.
"""
