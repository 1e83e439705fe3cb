"""The classes of the known data sets, and how their folders spell them."""

# Less case, spaces, `_` and `-`, and with "tumour" read as "tumor".
SPELLINGS = {
    "glioma": ("glioma", "gliomatumor"),
    "meningioma": ("meningioma", "meningiomatumor"),
    "notumor": ("notumor", "no", "healthy", "notcancer", "normal", "negative"),
    "pituitary": ("pituitary", "pituitarytumor"),
    "tumor": ("tumor", "braintumor", "yes", "cancer", "positive"),
}
