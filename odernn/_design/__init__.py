"""From requirements to cells."""

from ._candidate import Candidate as Candidate
from ._requirements import PROPERTIES as PROPERTIES
from ._requirements import Requirements as Requirements
from ._search import Design as Design
from ._search import design as design
