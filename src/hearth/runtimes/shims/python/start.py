"""Starts the shim from its compiled form: Python compiles a script anew each time, a module it imports only once.

That is 4 ms and more than a megabyte of each instance. Standard library only, Python >= 3.9.
"""

import sys

sys.dont_write_bytecode = True
sys.path.insert(0, __file__.rpartition("/")[0])
shim = __import__("shim")  # it takes its folder out of the path again
del sys.modules["shim"]  # a function may have a module of this name
shim.main()
