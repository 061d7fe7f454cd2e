"""`python -m fewron_recover`."""

import sys

from fewron_recover.cli import main

sys.exit(main())
