"""Files of the user: found, unpacked, decoded, and read as text or as rows, by their content and not by their names."""

from sae_lightning.files.decoding import bad_byte, check_encoding
from sae_lightning.files.finding import check_there, find_files
from sae_lightning.files.kinds import UserFile, check_folders, open_file
from sae_lightning.files.plain import PlainFile
from sae_lightning.files.row import Row
from sae_lightning.files.table import TableFile, column_problem
from sae_lightning.files.unpacking import is_damage

__all__ = [
    "PlainFile",
    "Row",
    "TableFile",
    "UserFile",
    "bad_byte",
    "check_encoding",
    "check_folders",
    "check_there",
    "column_problem",
    "find_files",
    "is_damage",
    "open_file",
]
