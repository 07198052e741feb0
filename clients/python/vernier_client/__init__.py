"""Client of vernierd. `Client` is all there is; messages are in vernier_client.proto.vernier.v1."""
from .client import Client, Generation, Preference, Tls, VernierError

__all__ = ["Client", "Generation", "Preference", "Tls", "VernierError"]
