"""`python -m odernn` is `odernn`."""

import sys

from ._cli import main

sys.exit(main())
