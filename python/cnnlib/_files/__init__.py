"""Files that are written whole or not at all, locks, the headers of NumPy's arrays."""

from cnnlib._files.written import sync_folder, written_whole

__all__ = ["sync_folder", "written_whole"]
