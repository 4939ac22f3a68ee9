"""How rows become what the model learns from; used in training and in serving alike."""

from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler


def scaled():
    """Fill gaps and bring every column to the same scale."""
    return make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
