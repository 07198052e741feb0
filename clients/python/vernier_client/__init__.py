"""Client of vernierd. `Client` is all there is; messages are in vernier_client.proto.vernier.v1."""
from .client import Client, Generation, Tls, VernierError

__all__ = ["Client", "Generation", "Tls", "VernierError"]
