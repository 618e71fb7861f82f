"""One thread for every test: small tensors gain nothing from more, and the tests share the processor."""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # for torch here, imported later, and for the programs that tests start
