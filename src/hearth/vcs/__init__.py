"""Git hosts, one module each: what `hearth.ports.GitHost` asks for, at that kind of host."""
