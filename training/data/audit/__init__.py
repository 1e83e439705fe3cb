"""What is wrong with a data set, found before a model is trained on it.

```
folders → measure (one look at each file) → findings → page of thumbnails, manifest
```
"""
