"""How workers come to be: as subprocesses of this machine, or by a command that reaches another one. Nothing of it is known to the hub."""
