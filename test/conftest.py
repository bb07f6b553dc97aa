"""For every pytest run: where the helpers lie, what SIGTERM does, which tests are long."""
import os
import pathlib
import signal
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent / "e2e"))

# 'make test-long' has it; 'make test' has not.
collect_ignore = [] if os.environ.get("MOLN_LONG") else ["e2e/test_debian.py"]


def interrupt(*_):
    raise KeyboardInterrupt("SIGTERM")


def pytest_configure():
    """A run that is ended from outside removes its clouds first, as after Ctrl-C."""
    signal.signal(signal.SIGTERM, interrupt)
