import empirical as empirical
import figures as figures
import theory as theory
from theory import *
from empirical import *
from theory.predict import *
from theory.audit import *
from theory.audit import audit as audit
from theory.predict import predict as predict  # and not the room of the same name
