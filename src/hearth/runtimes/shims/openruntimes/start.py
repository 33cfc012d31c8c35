"""Starts the bridge to an image's own server; the one argument says how many requests it takes at once: many or one.

Runs by a Python that the sandbox was lent, beside the image. Standard library only, Python >= 3.9.
"""

import sys

sys.dont_write_bytecode = True
_OWN = __file__.rpartition("/")[0]
sys.path[:0] = [_OWN.rpartition("/")[0] + "/python", _OWN]
bridge = __import__("hearth_bridge")
bridge.main(takes_many=sys.argv[1] == "many")
