"""What is wrong with pictures, before anything is trained on them."""

from ood_keras.pipelines.audit import leave_out
from ood_keras.pipelines.audit.collection import (
    AuditedSource,
    Collection,
    Picture,
    gather,
)
from ood_keras.pipelines.audit.findings import Finding, counts, find, sizes, spoils

__all__ = [
    "AuditedSource",
    "Collection",
    "Finding",
    "Picture",
    "counts",
    "find",
    "gather",
    "leave_out",
    "sizes",
    "spoils",
]
