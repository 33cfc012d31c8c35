"""Starts the shim from its compiled form: Python compiles a script anew each time, a module it imports only once.

That is 4 ms and more than a megabyte of each instance. Standard library only, Python >= 3.9.
"""

import sys

sys.dont_write_bytecode = True
sys.path.insert(0, __file__.rpartition("/")[0])
# `from __future__ import annotations` looks for the module at run time too; reading it is a third of a millisecond.
future = type(sys)("__future__")
future.annotations = None  # type: ignore[attr-defined]
sys.modules["__future__"] = future
shim = __import__("shim")  # it takes its folder out of the path again
del sys.modules["shim"], sys.modules["__future__"]  # a function may have a module of this name, or want the real one
shim.main()
