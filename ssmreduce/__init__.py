"""Model reduction of deep state-space models: every S4D, S5 or LRU layer seen as a discrete LTI system."""

from . import adapters, errors
from .discretize import bilinear, inverse_bilinear, inverse_zoh, zoh
from .loading import load, read, save
from .model import SSMModel, export, replace_system
from .norms import h2_norm, modal_h2_norms, modal_hinf_norms
from .reduction import prune, prune_unstructured
from .responses import Chunk, frequency_response, impulse_response, simulate, simulate_chunk
from .scores import Scores, score
from .selection import Selection, select
from .systems import DiagonalSSM, StateSpace, unstable_states
from .trees import flatten, unflatten

__version__ = "0.1.0"
