import empirical as empirical
import figures as figures
import theory as theory
from theory import *
from empirical import *
from theory.predict import *
from theory.predict import predict as predict  # and not the room of the same name
