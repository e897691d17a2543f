"""Closure Harness: cheap statistics propose circuits, ablation disposes.

The public interface. Everything that a plugin or a notebook needs is imported from here, and loaded when it is first
used: ``from harness import Affinity, HarnessError, Spins, hookimpl``. ``__init__.pyi`` lists the names.
"""

import lazy_loader

__version__ = "0.1.0"
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
