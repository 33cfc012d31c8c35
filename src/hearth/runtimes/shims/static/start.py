"""Starts the server of static files: the shim of Python with a handler of ours in the place of the user's.

Standard library only, Python >= 3.9.
"""

import sys

sys.dont_write_bytecode = True
_OWN = __file__.rpartition("/")[0]
sys.path[:0] = [_OWN.rpartition("/")[0] + "/python", _OWN]
shim = __import__("shim")
files = __import__("files")
shim.main(files.load, files.completed)
