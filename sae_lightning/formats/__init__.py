"""SAEs in the files of other libraries: a file a format."""

from sae_lightning.formats.reading import ADAPTERS, ASSUMABLE, formats_in, is_own, read, writers
from sae_lightning.formats.stored import StoredSAE

__all__ = ["ADAPTERS", "ASSUMABLE", "StoredSAE", "formats_in", "is_own", "read", "writers"]
