"""What is wrong with a data set, found before a model is trained on it.

```
folders → measure (one look at each file) → findings → page of thumbnails, manifest
```
"""

from training.data.audit.duplicates import (
    NEAR_DUPLICATE_CORRELATION,
    find_contradictions,
    find_leaks,
    group_near_duplicates,
    list_members,
)

__all__ = [
    "NEAR_DUPLICATE_CORRELATION",
    "find_contradictions",
    "find_leaks",
    "group_near_duplicates",
    "list_members",
]
