"""Image sources, as uint8 in memory or in a file: data sets by name, ``parquet:PATH`` and ``folder:PATH``."""

from trainers.data.config import DataConfig
from trainers.data.findings import Findings
from trainers.data.image_set import ImageSet, Splits
from trainers.data.load import load_data, load_unlabelled, load_untrusted

__all__ = ["DataConfig", "Findings", "ImageSet", "Splits", "load_data", "load_unlabelled", "load_untrusted"]
