"""`python -m lrlab` is the same program as `lrlab`."""

import sys

from lrlab.cli import main

sys.exit(main())
