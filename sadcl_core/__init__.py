"""Multi-label image classification with label-level features and contrastive learning (SADCL, ECAI 2023).

Importing the package is cheap: torch is loaded by the modules that need it. Imports run one way only,
from `training`, `inference` and `plots` down to `losses` and `metrics`.
"""

__version__ = "0.1.0"
